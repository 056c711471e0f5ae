"""Completion, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from contract.paths import ROOT
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal

#: How each shell starts without anybody's settings.
SHELLS = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}


def completed(terminal: Terminal, *words: str) -> list[str]:
    """Return what fits, the last word being unfinished."""
    done = subprocess.run(
        [str(ROOT / "ew"), *words],
        env=terminal.environment | {"_EW_COMPLETE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    values = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert done.returncode == (0 if values else 1)
    return values


def test_commands_options_and_values(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={}, llama={})
    assert completed(terminal, "sta") == ["start", "status"]
    assert completed(terminal, "keys", "re") == ["revoke"]
    assert completed(terminal, "start", "--po") == ["--port"]
    assert completed(terminal, "status", "--") == ["--json", "--watch", "--help"]
    for command in ("start", "stop", "chat", "load", "logs", "estimate"):
        assert completed(terminal, command, "") == ["demo", "llama"]
    assert completed(terminal, "stop", "demo", "l") == ["llama"]
    assert completed(terminal, "start", "--engine", "cuda-v") == ["cuda-vllm"]
    assert completed(terminal, "start", "--engine=cuda-v") == ["cuda-vllm"]
    assert completed(terminal, "nonsense", "x") == []
    terminal.run("keys", "add", "--name", "alice")
    assert completed(terminal, "keys", "revoke", "a") == ["alice"]


def test_a_broken_configuration_breaks_no_line(host: Host, terminal: Terminal) -> None:
    terminal.config.write_text("{")
    assert completed(terminal, "start", "") == []
    assert completed(terminal, "sta") == ["start", "status"]
    assert not terminal.state.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tab(shell: str, host: Host, terminal: Terminal) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal.configure(**{"demo": {}, "a:b": {}})
    home = host.directory / "home"
    home.mkdir()
    environment = {**terminal.environment, "HOME": str(home), "SHELL": shell, "TERM": "dumb"}
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        environment.pop(name, None)
    # A command after it keeps the shell alive, as it is when a user types.
    install = f"{ROOT}/ew --install-completion && {ROOT}/ew --install-completion; true"
    done = subprocess.run(
        [shell, *SHELLS[shell], "-c", install],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{shell} completes ew" in done.stderr, done
    script = installed(shell, home)
    typed = pexpect.spawn(
        shell,
        SHELLS[shell],
        env={**environment, "PS1": "$ "},
        cwd=str(ROOT),
        encoding="utf-8",
        timeout=30,
        dimensions=(30, 100),
    )
    # A shell that is not ready yet would read the tab as a letter.
    typed.sendline(f"source {script}; echo re''ady")
    typed.expect("ready")
    for line, rest in (("./ew sto", "p"), ("./ew stop de", "mo"), ("./ew start a:", "b")):
        typed.send(f"{line}\t")
        typed.expect_exact(rest)
        typed.send("\x15")
    typed.close(force=True)


def installed(shell: str, home: Path) -> Path:
    """Return the script; the file that the shell reads at its start names it once."""
    if shell == "fish":
        return home / ".config/fish/completions/ew.fish"
    script = home / f".local/share/ew/completion.{shell}"
    start = home / {"bash": ".bashrc", "zsh": ".zshrc"}[shell]
    assert start.read_text() == f"source '{script}'\n"
    return script


def test_no_shell_no_script(host: Host, terminal: Terminal) -> None:
    said = terminal.run("--show-completion", SHELL="/bin/tcsh")
    assert said.code == 1
    assert "neither bash nor zsh nor fish" in said.err
    shown = terminal.run("--show-completion", SHELL="/usr/bin/zsh")
    assert "compdef _ew_completion ew" in shown.out
    assert os.environ.get("_EW_COMPLETE") is None
