"""How the `ew` command behaves whatever the command is."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from contract.config import load_config
from contract.paths import ROOT, logs_dir
from orchestrator import cli
from orchestrator.cli import main
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.configure.config import schema_text
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import COMMAND, Terminal

HEAVY = {"redis", "pydantic", "pydantic_settings", "httpx", "pynvml", "asyncio", "rich", "psutil"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_their_docstrings_say(name: str) -> None:
    identifier = name.replace("-", "_")
    module = import_module(f"orchestrator.cli.{COMMANDS[name].folder}.{identifier}")
    app = getattr(module, "app", None)
    text = app.info.help if app is not None and isinstance(app.info.help, str) else None
    if text is None:
        text = inspect.getdoc(getattr(module, identifier)) or ""
    assert text.splitlines()[0] == COMMANDS[name].summary


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status"],
        ["status", "--json"],
        ["stauts"],
        ["keys", "list"],
        ["keys", "add", "--name", "alice", "--expires", "30d"],
        ["logs", "-n", "3"],
        ["stop"],
        ["stop", "demo", "--now"],
    ],
)
def test_what_must_feel_instant_imports_nothing_heavy(
    arguments: list[str], host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    program = (
        "import sys; from orchestrator.cli import main; main(sys.argv[1:]); "
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.rpartition("MODULES ")[2].split())
    assert "orchestrator.cli" in modules
    assert not modules & HEAVY


def test_a_mistyped_command_is_guessed(host: Host, terminal: Terminal) -> None:
    wrong = terminal.run("stauts")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err == "error: no command `stauts`\nhint: did you mean `status`?\n"


def test_a_wrong_option_is_the_users_to_mend(host: Host, terminal: Terminal) -> None:
    wrong = terminal.run("status", "--jsn")
    assert wrong.code == 1
    assert wrong.err == (
        "error: `./ew status` has no option `--jsn`\nhint: did you mean `--json`?\n"
    )


def test_help_goes_to_stdout_and_without_a_command_too(host: Host, terminal: Terminal) -> None:
    for arguments in (["--help"], []):
        shown = terminal.run(*arguments)
        assert shown.code == 0
        assert all(name in shown.out for name in COMMANDS)


def test_a_defect_leaves_its_trace_in_a_log_and_one_line_on_the_terminal(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cli, "load_command", broken)
    assert main(["status"]) == 2
    path = logs_dir() / "ew.log"
    assert capsys.readouterr().err == (
        f"error: a defect of ew: ZeroDivisionError: oh\nhint: see {path}\n"
    )
    assert "Traceback" in path.read_text()


def test_a_reader_that_leaves_early_is_no_defect(host: Host, terminal: Terminal) -> None:
    pipe = f"{' '.join(COMMAND)} --help | head -c 1"
    done = subprocess.run(
        ["bash", "-c", pipe], env=terminal.environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_colour_is_only_for_terminals_that_want_it(host: Host, terminal: Terminal) -> None:
    plain = terminal.spawn("stauts")
    plain.expect("error: no command")
    terminal.environment.pop("NO_COLOR")
    coloured = terminal.spawn("stauts")
    coloured.expect(r"\x1b\[31merror:\x1b\[0m no command")


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "deploy" / "config.schema.json").read_text() == schema_text()


def test_the_shipped_configuration_is_good() -> None:
    config = load_config(ROOT / "deploy" / "config.json")
    assert config.models["demo"].engine == "vllm"
    assert config.gateway.host == "127.0.0.1"


def test_config_check_names_line_and_nearest_key(host: Host, terminal: Terminal) -> None:
    terminal.config.write_text('{\n  "gateway": {\n    "prot": 1\n  }\n}\n')
    checked = terminal.run("config", "check")
    assert checked.code == 1
    assert "config.json:3: unknown key `gateway.prot`; did you mean `port`?" in checked.err
    assert terminal.run("start").code == 1
    assert host.processes() == []


def test_config_check_of_a_good_file(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    checked = terminal.run("config", "check")
    assert (checked.code, checked.out) == (0, "")
    assert "is good; models: `demo`" in checked.err


def test_models_are_listed_with_what_they_need(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={}, big={"engine": "cuda-trt", "env": "mine"})
    assert [model["id"] for model in json.loads(terminal.run("models", "--json").out)] == [
        "demo",
        "big",
    ]
    shown = terminal.run("models").out.splitlines()
    assert shown[1].split() == ["demo", "stopped", "mock", ".venv", "none"]
    assert shown[2].split() == ["big", "stopped", "cuda-trt", "mine", "(missing)", "none"]


def test_keys_are_made_listed_rotated_and_revoked(host: Host, terminal: Terminal) -> None:
    made = terminal.run("keys", "add", "alice", "--model", "llama-*", "--expires", "30d")
    assert made.code == 0
    key = made.out.strip()
    assert key.startswith("ew_")
    listed = terminal.run("keys", "list")
    assert "alice" in listed.out
    assert "llama-*" in listed.out
    assert key.split("_")[2] not in listed.out + Path(terminal.state / "keys.json").read_text()
    rotated = terminal.run("keys", "rotate", "alice", "--overlap", "1h")
    assert rotated.out.strip() != key
    states = [record.split()[2] for record in terminal.run("keys", "list").out.splitlines()[1:]]
    assert states == ["ending", "live"]
    assert "several keys are called `alice`" in terminal.run("keys", "revoke", "alice").err
    assert terminal.run("keys", "revoke", key.split("_")[1]).code == 0
    assert "no live key" in terminal.run("keys", "revoke", key.split("_")[1]).err
    assert (terminal.state / "keys.json").stat().st_mode & 0o777 == 0o600


def test_who_answers_for_a_key_is_kept_and_shown(host: Host, terminal: Terminal) -> None:
    terminal.run("keys", "add", "alice", "--owner", "Ada", "--note", "for the lab", "--group", "g")
    terminal.run("keys", "add", "bert")
    head, *rows = terminal.run("keys", "list").out.splitlines()
    assert head.split()[:4] == ["ID", "NAME", "OWNER", "STATE"]
    assert rows[0].split()[1:4] == ["alice", "Ada", "live"]
    assert rows[1] == "  for the lab"
    described = terminal.run("keys", "describe", "alice", "--name", "anna", "--note", "")
    assert "name, note changed" in described.err
    alice, bert = json.loads(terminal.run("keys", "list", "--json").out)
    assert (alice["name"], alice["owner"], alice["group"]) == ("anna", "Ada", "g")
    assert ("note" in alice, "owner" in bert, bert["last_used_unix_s"]) == (False, False, None)
    assert "give --name" in terminal.run("keys", "describe", "anna").err
    for wrong in (["--note", "a" * 201], ["--owner", "\x1b[2J"], ["--name", "a\nb"]):
        assert terminal.run("keys", "describe", "anna", *wrong).code == 1
        assert terminal.run("keys", "add", "eve", *wrong[:1], wrong[1]).code == 1
    assert terminal.run("keys", "add", "eve", "--group", "a b").code == 1
    assert len(json.loads(terminal.run("keys", "list", "--json").out)) == 2


def test_limits_of_keys_are_set_shown_and_lifted(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.run("keys", "add", "alice")
    limit = ("keys", "limit", "alice")
    assert "no limits of its own" in terminal.run(*limit).out
    made = terminal.run(*limit, "requests_per_minute=60", "tokens_per_day=none", "--group", "team")
    words = "requests_per_minute=60, tokens_per_day=none, group team"
    assert words in made.err
    assert "warning: no group `team` in `limits.groups`: it holds the key to nothing" in made.err
    assert terminal.run(*limit).out == f"{words}\n"
    named = {"EW_LIMITS__GROUPS": '{"teams": {"open_requests": 9}}'}
    known = terminal.run("keys", "limit", "alice", "--group", "teams", **named)
    assert (known.code, "warning" in known.err) == (0, False), known
    near = terminal.run("keys", "limit", "alice", "--group", "team", **named)
    assert "no group `team` in `limits.groups` beside `teams`" in near.err
    assert words in terminal.run("keys", "list").out
    (record,) = json.loads(terminal.run("keys", "list", "--json").out)
    assert (record["group"], record["limits"]["requests_per_minute"]) == ("team", 60)
    terminal.run(*limit, "requests_per_minute=")
    assert "requests_per_minute" not in terminal.run(*limit).out
    for wrong in ("requests=1", "tokens_per_day=0", "tokens_per_day=many", "open_requests"):
        failed = terminal.run(*limit, wrong)
        assert (failed.code, wrong.partition("=")[0] in failed.err) == (1, True), failed
    assert terminal.run(*limit, "--group", "a b").code == 1


def test_an_expiry_that_is_none_is_explained(host: Host, terminal: Terminal) -> None:
    wrong = terminal.run("keys", "add", "--expires", "soon")
    assert wrong.code == 1
    assert wrong.err == "error: `soon` is not a time\nhint: write it as 90s, 30m, 12h, 30d or 8w\n"


def test_chat_without_a_gateway_says_what_to_do(host: Host, terminal: Terminal) -> None:
    chat = terminal.run("chat", "demo", stdin="hi")
    assert chat.code == 1
    assert chat.err == "error: the gateway does not run\nhint: `./ew start`\n"


def test_a_check_names_a_variable_that_means_nothing(host: Host, terminal: Terminal) -> None:
    terminal.configure(m={})
    checked = terminal.run("config", "check", EW_GATEWAY_PORT="9000")
    assert checked.code == 0
    assert "EW_GATEWAY_PORT means nothing to ew; did you mean EW_GATEWAY__PORT?" in checked.err


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_command_does_without_a_stream_that_is_closed(terminal: Terminal, number: int) -> None:
    terminal.configure(demo={})
    closed = ["sh", "-c", f'exec "$@" {number}>&-', "sh", *COMMAND]
    for arguments in (["config", "check"], ["keys", "list"]):
        done = subprocess.run(
            [*closed, *arguments],
            env=terminal.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        assert "defect" not in done.stderr


def test_letters_that_an_encoding_lacks_are_escapes(terminal: Terminal) -> None:
    terminal.configure(demo={})
    assert terminal.run("keys", "add", "Zoë").code == 0
    listed = terminal.run("keys", "list", PYTHONIOENCODING="ascii")
    assert (listed.code, r"Zo\xeb" in listed.out) == (0, True), listed
