"""The help of every command, and what it says to wrong arguments: in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperArgument, TyperGroup, TyperOption

from orchestrator.cli import main
from orchestrator.cli.commands import COMMANDS, load_command
from orchestrator.cli.parsing.parameters import PlainArgument, PlainOption

#: Words of typer, click and pydantic.
LIBRARY_WORDS = re.compile(
    r"<\w+|\blist\[|\bstr\b|\bint\b|INTEGER|FLOAT|\bRANGE\b|x<=|x>=|Input should|NoneType"
    r"|metavar|Traceback|argument\(s\)|Optional"
)


def every_command() -> Iterator[tuple[list[str], Any]]:
    for name in COMMANDS:
        command = load_command(name)
        yield [name], command
        if isinstance(command, TyperGroup):
            yield from (([name, each], sub) for each, sub in command.commands.items())


EVERY = [pytest.param(path, command, id=" ".join(path)) for path, command in every_command()]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(("path", "command"), EVERY)
def test_help_is_plain(
    path: list[str], command: Any, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([*path, flag], capsys)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: ./ew {' '.join(path)}")
    assert not LIBRARY_WORDS.search(out)
    assert max(map(len, out.splitlines())) <= 80
    assert all(isinstance(each, PlainOption | PlainArgument) for each in command.params)


@pytest.mark.parametrize(("path", "command"), EVERY)
def test_an_option_that_is_not_there_is_named(
    path: list[str], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if path == ["test"]:
        pytest.skip("passes everything on")
    code, out, err = run([*path, "--frobnicate"], capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: `./ew {' '.join(path)}` has no option `--frobnicate`\nhint: ")


def numbers() -> Iterator[Any]:
    for path, command in every_command():
        for option in command.params:
            if option.type_descriptor.annotation in (int, float):
                yield pytest.param(path, option, id=f"{' '.join(path)} {option.opts[0]}")


@pytest.mark.parametrize("text", ["soon", "", "1e999", "nan", "-1000000", "0x10"])
@pytest.mark.parametrize(("path", "option"), [*numbers()])
def test_a_number_that_is_none_is_named(
    path: list[str], option: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text == "-1000000" and option.min is None:
        pytest.skip("any number will do")
    code, out, err = run([*path, f"{option.opts[0]}={text}"], capsys)
    assert (code, out) == (1, "")
    line, hint = err.splitlines()
    assert line.startswith(f"error: `{option.opts[0]}`: `{text}` is not a ")
    assert not LIBRARY_WORDS.search(line)
    assert hint == f"hint: see `./ew {' '.join(path)} --help`"


@pytest.mark.parametrize(("path", "command"), EVERY)
def test_a_value_that_is_missing_is_asked_for(
    path: list[str], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in command.params:
        if isinstance(option, TyperOption) and not option.is_flag:
            code, _, err = run([*path, option.opts[0]], capsys)
            assert code == 1
            assert err.startswith(f"error: option `{option.opts[0]}` requires an argument\nhint: ")


@pytest.mark.parametrize(("path", "command"), EVERY)
def test_what_a_command_needs_and_what_is_too_much_is_told(
    path: list[str], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    missing = [each for each in command.params if each.required]
    if isinstance(command, TyperGroup) or path == ["test"]:
        return
    if missing:
        code, out, err = run(path, capsys)
        assert (code, out) == (1, "")
        assert (
            err
            == f"error: {missing[0].label} is missing\nhint: see `./ew {' '.join(path)} --help`\n"
        )
    elif all(each.nargs == 1 for each in arguments):
        surplus = ["one"] * (len(arguments) + 1)
        code, out, err = run([*path, *surplus], capsys)
        assert (code, out) == (1, "")
        assert err.startswith(f"error: `./ew {' '.join(path)}` has no use for `one`")


@pytest.mark.parametrize("group", ["keys", "config", "env", ""])
def test_a_group_alone_shows_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run([group] if group else [], capsys)
    assert (code, err) == (0, "")
    assert "Commands:" in out
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stat", "status"),
        ("stauts", "status"),
        ("STATUS", "status"),
        ("ps", "status"),
        ("top", "status"),
        ("ls", "models"),
        ("list", "models"),
        ("run", "chat"),
        ("serve", "start"),
        ("up", "start"),
        ("down", "stop"),
        ("log", "logs"),
        ("rm", "models rm"),
        ("pull", "models pull"),
        ("install", "setup"),
        ("help", "--help"),
        ("version", "--version"),
        ("keys ls", "keys list"),
        ("keys new", "keys add"),
        ("keys delete", "keys revoke"),
        ("env rm", "env remove"),
        ("config chek", "config check"),
    ],
)
def test_what_people_type_is_guessed(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(typed.split(), capsys)
    assert code == 1
    assert err == f"error: no command `{typed}`\nhint: did you mean `{meant}`?\n"


def test_what_nobody_could_mean_is_sent_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["xyzzy"], capsys)[2].endswith("hint: `./ew --help` lists the commands\n")
    assert run(["keys", "xyzzy"], capsys)[2].endswith(
        "hint: `./ew keys --help` lists the commands\n"
    )


def test_the_version_names_the_commit_of_a_clone(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--version"], capsys)
    assert code == 0
    assert re.fullmatch(r"ew \d+\.\d+\.\d+( \([0-9a-f]{7,}(, changed)?\))?\n", out)
