"""The documentation: its links lead somewhere, its commands are ew's, all of it is on the site."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from contract.paths import ROOT
from orchestrator import cli
from orchestrator.cli.commands import COMMANDS, load_command, plain_app
from orchestrator.errors import UserError
from scripts import commands_reference, site
from tests import documented

_COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\./)?ew( .*)?$")
_BLOCK = re.compile(r"^```(?:console|sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(\./ew [^`\n]+)`")
#: Of a line of a shell: the end of a command.
_ENDS = re.compile(r" (?:[|;&>]|#|&&)")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", site.pages(), ids=str)
def test_links_lead_to_what_is_there(page: Path) -> None:
    for path, anchor in site.links(page):
        target = ROOT / page.parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {path}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page} links to {path}#{anchor}"


def test_every_page_has_its_place_on_the_site() -> None:
    assert set(site.pages()) - site.records() == site.in_navigation()


def test_the_site_has_the_pages_and_what_they_link_to(tmp_path: Path) -> None:
    site.stage(tmp_path)
    for page in site.pages():
        assert (tmp_path / page).read_text() == (ROOT / page).read_text()
    assert (tmp_path / "deploy" / "proxies" / "nginx.conf").is_file()
    assert not (tmp_path / "orchestrator").exists()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning() -> None:
    done = subprocess.run([ROOT / "scripts" / "site"], capture_output=True, text=True, check=False)
    if "network" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "docs/commands/index", "docs/upgrade/index"):
        assert (site.OUT / "html" / f"{page}.html").is_file()


def test_the_reference_of_commands_is_what_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made = "`scripts/commands_reference.py > docs/commands.md` makes it anew"
    assert (ROOT / "docs" / "commands.md").read_text() == commands_reference.reference(), made


def commands_of(page: Path) -> Iterator[str]:
    """Yield what a page tells people to type, from `ew` on."""
    text = (ROOT / page).read_text()
    lines = "".join(_BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    for line in (*lines, *_INLINE.findall(text)):
        found = _COMMAND.match(line.strip())
        if found and found[1]:
            yield _ENDS.split(found[1], maxsplit=1)[0].strip()


@cache
def loaded(name: str) -> Any:
    return load_command(name)


@cache
def before_commands() -> list[Any]:
    """Return the options that stand before a command."""
    app = plain_app(cls=cli.Commands)
    app.callback()(cli._ew)
    return list(typer.main.get_command(app).params)


def parse(words: list[str]) -> None:
    """Parse a command as ew does, and do nothing. Raises `UserError` if it is none."""
    takes_value = {each: not param.is_flag for param in before_commands() for each in param.opts}
    while words and words[0] in takes_value:
        words = words[1 + takes_value[words[0]] :]
    if not words or words[0] in ("-h", "--help"):
        return
    if words[0] not in COMMANDS:
        raise UserError(f"there is no command {words[0]}")
    command, rest = loaded(words[0]), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    options = {each for param in command.params for each in (*param.opts, *param.secondary_opts)}
    options |= {"--help", "-h"}
    is_open = (command.context_settings or {}).get("ignore_unknown_options", False)
    for word in rest:
        if word.startswith("-") and not is_open and word.partition("=")[0] not in options:
            raise UserError(f"`ew {' '.join(words)}`: there is no {word}")


PAGES = [page for page in site.pages() if page.name not in ("commands.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_are_those_that_ew_has(page: Path) -> None:
    for text in commands_of(page):
        parse(shlex.split(text))


@pytest.mark.parametrize("page", documented.PAGES, ids=str)
def test_a_mark_stands_above_the_block_that_is_not_run(page: Path) -> None:
    assert documented.marks_in(page) == sum(
        1 for each in documented.blocks_of(page) if each.why_not
    )


def test_most_commands_are_run() -> None:
    blocks = [block for page in documented.PAGES for block in documented.blocks_of(page)]
    run = [command for block in blocks if not block.why_not for command in block.commands]
    assert len(run) > 30


def test_a_command_that_ew_does_not_have_is_seen() -> None:
    parse(["keys", "add", "x", "--model", "y"])
    for words in (["kyes", "add"], ["keys", "add", "--modle", "y"], ["stop", "--soon"]):
        with pytest.raises(UserError):
            parse(words)
    assert sum(len(list(commands_of(page))) for page in PAGES) > 150
