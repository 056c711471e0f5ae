"""A model with a `/` in its id and another name, through every command that names one."""

from __future__ import annotations

import json
from typing import NoReturn

import pytest

from contract.paths import log_path, logs_dir, process_of_log
from orchestrator.cli.operate import restart as restarts
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal

ID = "Qwen/Qwen2.5-7B-Instruct"


def test_a_repository_as_an_id_from_start_to_stop(host: Host, terminal: Terminal) -> None:
    model = {"aliases": ["team/best"], "load": "on-demand", "served_model_name": "qwen"}
    terminal.configure(**{ID: model, "other": {}})
    started = terminal.run("start", "--model", "team/best")
    assert started.code == 0, started
    assert f"{ID}-0 loads at its first request" in started.err
    assert terminal.run("load", "qwen").code == 0
    assert "is pinned" in terminal.run("pin", "team/best").err
    chat = terminal.run("chat", "team/best", "--max-tokens", "3", stdin="hi\n")
    assert (chat.code, chat.out) == (0, "0 1 2 \n"), chat
    status = json.loads(terminal.run("status", "--json").out)
    assert [model["id"] for model in status["models"]] == [ID]
    assert [worker["slot"] for worker in status["models"][0]["workers"]] == [f"{ID}-0"]
    assert (logs_dir() / "Qwen+Qwen2.5-7B-Instruct-0.log").exists()
    for name in (ID, "team/best"):
        logs = terminal.run("logs", name)
        assert (logs.code, "INFO" in logs.out) == (0, True)
    assert f"{ID}-0 | " in terminal.run("logs").out
    assert terminal.run("unload", "qwen").code == 0
    stopped = terminal.run("stop", "team/best")
    assert (stopped.code, stopped.err.count("Refused")) == (0, 0)
    listed = json.loads(terminal.run("models", "--json").out)
    assert listed[0]["aliases"] == ["qwen", "team/best"]
    assert terminal.run("stop").code == 0


def test_an_estimate_and_a_guess_take_other_names_too(host: Host, terminal: Terminal) -> None:
    terminal.configure(**{ID: {"aliases": ["team/best"]}})
    assert json.loads(terminal.run("estimate", "team/best", "--json").out)["models"][0]["id"] == ID
    assert "did you mean `team/best`?" in terminal.run("start", "--model", "team/bets").err


def test_a_model_is_stopped_by_its_id_while_the_configuration_is_broken(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(**{ID: {}})
    assert terminal.run("start").code == 0
    terminal.config.write_text("{")
    assert "no model `team/best` runs" in terminal.run("stop", "team/best").err
    assert terminal.run("stop", ID).code == 0
    assert terminal.run("stop").code == 0


def test_other_names_and_sampling_are_the_gateways_and_change_no_worker(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(m={})
    assert terminal.run("start").code == 0
    terminal.configure(m={"aliases": ["n"], "sampling": {"top_p": 0.5}})
    again = terminal.run("start").err
    assert "m-0 runs already" in again
    assert "former settings" not in again
    assert terminal.run("stop").code == 0


def test_the_log_of_each_process_is_its_own(host: Host) -> None:
    names = ["a/b-0", "a-b-0", "a--b-0", "gateway"]
    paths = [log_path(name) for name in names]
    assert len({path.name for path in paths}) == len(names)
    assert {path.parent for path in paths} == {logs_dir()}
    assert [process_of_log(path) for path in paths] == names


@pytest.mark.parametrize(
    ("words", "other_name", "model"),
    [
        (["gateway"], ([], True), (["gateway"], False)),
        (["m", "gateway"], (["m"], True), (["m", "gateway"], False)),
        (["--gateway"], ([], True), ([], True)),
        (["gateway", "--gateway"], ([], True), (["gateway"], True)),
        ([], (None, True), (None, True)),
    ],
)
def test_a_model_called_gateway_is_restarted_by_its_name(
    words: list[str],
    other_name: tuple[list[str] | None, bool],
    model: tuple[list[str], bool],
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def asked() -> tuple[list[str] | None, bool]:
        with pytest.raises(Asked) as found:
            restarts.restart([each for each in words if each != "--gateway"], "--gateway" in words)
        return found.value.restart

    monkeypatch.setenv("EW_CONFIG", str(terminal.config))
    monkeypatch.setenv("EW_STATE_DIR", str(terminal.state))
    monkeypatch.setattr(restarts, "reach_supervisor", object)
    monkeypatch.setattr(restarts, "restart_request", note)
    terminal.configure(m={"aliases": ["gateway"]})
    assert asked() == other_name
    assert not capsys.readouterr().err
    terminal.configure(m={}, gateway={})
    assert asked() == model
    is_told = "`gateway` is a model here" in capsys.readouterr().err
    assert is_told == ("gateway" in words and "--gateway" not in words)


class Asked(Exception):
    """A supervisor would be asked for this."""

    def __init__(self, restart: tuple[list[str] | None, bool]) -> None:
        self.restart = restart


def note(models: list[str] | None, *, gateway: bool) -> NoReturn:
    raise Asked((models, gateway))
