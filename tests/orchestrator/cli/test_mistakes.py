"""Mistakes that people make with the command line: each is one line that names the thing, and one
with the next step; exit code 1; nothing is left behind. Drives the real `./ew`."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from contract.paths import ROOT
from orchestrator.terminal.speech import complain, warn
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal


class Mistake(NamedTuple):
    """A command line, and words of the two lines that it prints."""

    arguments: list[str]
    error: str
    hint: str


def mistake(typed: str, error: str, hint: str) -> Mistake:
    return Mistake(typed.split(), error, hint)


MISTAKES = [
    # Names of no command.
    mistake("stauts", "no command `stauts`", "`status`"),
    mistake("stat", "no command `stat`", "`status`"),
    mistake("ps", "no command `ps`", "`status`"),
    mistake("list", "no command `list`", "`models`"),
    mistake("run demo", "no command `run`", "`chat`"),
    mistake("serve demo", "no command `serve`", "`start`"),
    mistake("help", "no command `help`", "`--help`"),
    mistake("keys new", "no command `keys new`", "`keys add`"),
    mistake("config validate", "no command `config validate`", "`config check`"),
    mistake("env rm x", "no command `env rm`", "`env remove`"),
    mistake("demo start", "no command `demo`", "./ew --help"),
    Mistake([""], "no command ``", "./ew --help"),
    Mistake(["status --json"], "no command `status --json`", "`status`"),
    Mistake(["\x1b[31mred"], "no command `␛[31mred`", "./ew --help"),
    # Options.
    mistake("status --jsn", "`./ew status` has no option `--jsn`", "`--json`"),
    mistake("--frob 1 start", "`./ew` has no option `--frob`", "./ew --help"),
    mistake("--port 1 start", "`./ew` has no option `--port`", "did you mean"),
    mistake("start -p 8080", "`./ew start` has no option `-p`", "./ew start --help"),
    mistake("start --port", "option `--port` requires an argument", "./ew start --help"),
    mistake("start --port http", "`--port`: `http` is not a whole number", "./ew start --help"),
    mistake("start --port 65536", "`65536` is not a whole number from 0 to 65535", "help"),
    mistake("stop --now=yes", "option `--now` does not take a value", "./ew stop --help"),
    mistake("logs --since yesterday", "`yesterday` is not a time", "2026-01-31T12:00"),
    mistake("logs demo -n all", "`--lines`: `all` is not a whole number", "./ew logs --help"),
    mistake("chat demo --temperature hot", "`--temperature`: `hot` is not a number", "help"),
    mistake("chat demo --max-tokens 0", "`--max-tokens`: `0` is not a whole number from 1", "help"),
    # Arguments.
    mistake("chat", "MODEL is missing", "./ew chat --help"),
    mistake("keys revoke", "KEY is missing", "./ew keys revoke --help"),
    mistake("env remove", "NAME is missing", "./ew env remove --help"),
    mistake("status demo", "`./ew status` has no use for `demo`", "./ew status --help"),
    mistake("convert-trt", "`--model` is missing", "./ew convert-trt --help"),
    # Names of nothing that there is.
    mistake("start dmeo", "no model `dmeo`", "did you mean `demo`?"),
    mistake("start demo nobody", "no model `nobody`", "`demo`"),
    mistake("start --model nobody", "no model `nobody`", "`demo`"),
    mistake("start --engine vlm", "no such model has the engine `vlm`", "`mock`"),
    mistake("start --env nowhere", "there is no environment `nowhere`", "./ew env list"),
    mistake("start --foreground dmeo", "no model `dmeo`", "`demo`"),
    mistake("estimate dmeo", "no model `dmeo`", "`demo`"),
    mistake("estimate --on lots", "`lots` does not describe GPUs", "2x80"),
    mistake("env remove nowhere", "no environment `nowhere`", "./ew env list"),
    mistake("env remove ../..", "`../..` cannot be an environment's name", "letters"),
    mistake("setup", "no engine is given", "`cpu-vllm`"),
    mistake("setup --engine cuda-vlm", "the engine `cuda-vlm`", "`cuda-vllm`"),
    mistake("setup --engine cpu-vllm@0.0.1", "no `cpu-vllm` 0.0.1", "scripts/lock"),
    mistake("setup --engine cpu-vllm --manager brew", "no environment manager `brew`", "conda"),
    mistake("quickstart --model /no/such", "`/no/such` is neither a directory", "Qwen/"),
    mistake("config check /no/such.json", "/no/such.json", "./ew config reference"),
    mistake("config check /", "/", "./ew config reference"),
    # Keys.
    mistake("keys revoke bob", "no live key `bob`", "./ew keys list"),
    mistake("keys rotate bob", "no live key `bob`", "./ew keys list"),
    mistake("keys add --expires tomorrow", "`tomorrow` is not a time", "30d"),
    mistake("keys add --expires 999999999d", "`999999999d` is too long", "5200w"),
    mistake("keys add --expires 0d", "expires after 0d opens nothing", "time"),
    mistake("keys add --expires -1d", "`-1d` is not a time", "30d"),
    mistake("keys add alice bob", "`./ew keys add` has no use for `bob`", "./ew keys add --help"),
    mistake("keys add alice --name bob", "two names: `alice` and `bob`", "give one"),
    Mistake(["keys", "add", "two\nlines"], "one line of printable", "leave"),
    Mistake(["keys", "add", "--name", "two\nlines"], "one line of printable", "leave"),
    Mistake(["keys", "add", "--name", "x" * 65], "has 65 characters", "64"),
    Mistake(["keys", "add", "--model", ""], "glob is empty", "`*`"),
    # Nothing runs.
    mistake("chat demo", "the gateway does not run", "./ew start"),
    mistake("load demo", "ew does not run", "./ew start"),
    mistake("unload demo", "ew does not run", "./ew start"),
    mistake("pin demo", "ew does not run", "./ew start"),
    mistake("logs", "there are no logs yet", "./ew start"),
    mistake("logs dmeo", "no logs yet", "./ew start"),
    mistake("status --watch", "`--watch` needs a terminal", "--json"),
]


def tree(directory: Path) -> set[str]:
    return {str(path) for path in directory.rglob("*")}


def ew(terminal: Terminal, arguments: list[str], **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(ROOT / "ew"), *arguments],
        env=terminal.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["x" * 100_000, "x y " * 25_000, "`" * 100_000])
def test_of_an_endless_name_the_beginning_is_told(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    complain(f"no key `{name}`", f"try `{name}`: it ends")
    warn(f"`{name}`")
    told = capsys.readouterr().err
    assert len(told) < 1000
    assert "100000 characters" in told
    complain("no model `" + "m" * 96 + "`", "/a/path" * 100)
    assert "`" + "m" * 96 + "`" in (told := capsys.readouterr().err)
    assert "/a/path" * 100 in told


def test_every_error_has_its_next_step() -> None:
    bare = [
        f"{path}:{call.lineno}"
        for path in (ROOT / "orchestrator").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "UserError"
        if not any(isinstance(each, ast.Starred) for each in call.args)
        if len(call.args) < 2 and not any(each.arg == "hint" for each in call.keywords)
    ]
    assert not bare


@pytest.fixture
def configured(host: Host, terminal: Terminal) -> Iterator[Terminal]:
    terminal.configure(demo={}, llama={})
    before = tree(host.directory)
    yield terminal
    assert tree(host.directory) == before
    assert host.processes() == []


@pytest.mark.parametrize("made", MISTAKES, ids=lambda made: ascii(" ".join(made.arguments))[1:-1])
def test_a_mistake(made: Mistake, configured: Terminal) -> None:
    code, out, err = ew(configured, made.arguments)
    assert (code, out) == (1, ""), err
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("error: ")
    assert made.error in lines[0]
    assert lines[1].startswith("hint: ")
    assert made.hint in lines[1]


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"EW_CONFIG": "/no/such.json"}, "/no/such.json: No such file"),
        ({"EW_CONFIG": "/tmp"}, "/tmp: Is a directory"),
        ({"EW_GATEWAY__PORT": "http"}, "EW_GATEWAY__PORT"),
        ({"EW_STATE_DIR": "/dev/null"}, "/dev/null"),
        ({"EW_STATE_DIR": "/proc/nothing/here"}, "/proc/nothing"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    variables: dict[str, str], error: str, configured: Terminal
) -> None:
    code, out, err = ew(configured, ["start"], **variables)
    assert (code, out) == (1, ""), err
    assert error in err
    assert "hint: " in err
    assert "Traceback" not in err


def test_a_mistake_in_a_terminal_is_told_in_a_terminal(configured: Terminal) -> None:
    typed = configured.spawn("chat", "dmeo")
    typed.expect("error: the gateway does not run\r\nhint: `./ew start`\r\n")
    assert typed.wait() == 1
