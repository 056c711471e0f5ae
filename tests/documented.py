"""The commands that the documentation has people type, block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.paths import ROOT
from scripts import site

#: A block with this line above it is not run by `tests/test_docs_run.py`; the line says why.
_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?:console|sh|bash)\n(?P<lines>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_MARK: Final = re.compile(r"^<!-- not run", re.MULTILINE)
#: Generated from `--help`, whose usage lines are no commands; and a list of what was.
_OTHERS: Final = ("commands.md", "CHANGELOG.md")
PAGES: Final = [page for page in site.pages() if page.name not in _OTHERS]


class Block(NamedTuple):
    """Commands in their order. `why_not`: why they are not run, empty if they are."""

    commands: list[str]
    why_not: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that have commands: the lines that begin with `$`, each with those
    that go on after a backslash."""
    for found in _BLOCK.finditer((ROOT / page).read_text()):
        lines = found["lines"].replace("\\\n", "\\\0").splitlines()
        commands = [line[2:].replace("\0", "\n") for line in lines if line.startswith("$ ")]
        if commands:
            yield Block(commands, found["why"] or "")


def table_of(page: Path, title: str) -> list[str]:
    """Return the commands in the tables below a title, in their order, each once."""
    text = (ROOT / page).read_text()
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    return list(dict.fromkeys(re.findall(r"`((?:EW_\w+=\S+ )?\./ew [^`]+)`", rows)))


def marks_in(page: Path) -> int:
    """Return how often a page says that something is not run."""
    return len(_MARK.findall((ROOT / page).read_text()))
