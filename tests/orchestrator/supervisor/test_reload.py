"""`./ew reload`, and SIGHUP, with the real supervisor, gateway and workers."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from contract.config.variables import SECTIONS
from contract.paths import logs_dir
from orchestrator.config.effects import Effect, effect_of
from orchestrator.supervisor.reporting.run_file import read_run
from tests.orchestrator.conftest import Host
from tests.orchestrator.supervisor.test_restart import Clients
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually

FALLBACK: dict[str, Any] = {"fallback": {"to": ["lazy"], "after_waiting": 9, "after_wait_s": 30.0}}


@pytest.fixture
def ready(host: Host, terminal: Terminal) -> Terminal:
    """One model that is loaded, and one that comes and goes and is not there."""
    terminal.configure(
        demo={"max_batch_size": 64, "engine_args": {"tokens_per_s": 20}},
        lazy={"load": "on-demand", "max_batch_size": 64},
    )
    started = terminal.run("start")
    assert started.code == 0, started
    return terminal


def change(terminal: Terminal, **sections: dict[str, Any]) -> None:
    config = json.loads(terminal.config.read_text())
    for section, changed in sections.items():
        config.setdefault(section, {}).update(changed)
    terminal.config.write_text(json.dumps(config))


def model(terminal: Terminal, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(terminal.config.read_text())["models"][name]
    return found


def routes_of(terminal: Terminal, name: str) -> list[str] | None:
    """Return the models that fall in for one, as the status document has it."""
    models = json.loads(terminal.run("status", "--json").out)["models"]
    found: dict[str, Any] | None = next(each["routes"] for each in models if each["id"] == name)
    return found and found["fallback"]


def settings_of(slot: str) -> dict[str, Any]:
    run = read_run()
    assert run is not None
    unit = next(each for each in run.units if each.spec.slot == slot)
    found: dict[str, Any] = getattr(unit.spec, "spec", {}).get("model", {})
    return found


def test_each_change_counts_when_it_is_said_to_and_answers_go_on(
    host: Host, ready: Terminal
) -> None:
    clients = Clients(host, ready)
    worker = host.find_worker("demo-0").pid
    long = clients.stream(100)
    change(
        ready,
        models={
            "demo": {**model(ready, "demo"), "max_batch_size": 7, "aliases": ["d"], **FALLBACK},
            "lazy": {**model(ready, "lazy"), "max_batch_size": 9},
        },
        gateway={"max_connections": 500, "admin_port": 1},
        limits={"max_waiting": 5},
        logs={"max_bytes": 2_000_000},
    )
    reloaded = ready.run("reload")
    assert reloaded.code == 0, reloaded
    lines = reloaded.out.splitlines()
    assert dict(zip(lines[::2], lines[1::2], strict=True)) == {
        'models.demo.aliases: [] -> ["d"]': "  applied at once",
        f"models.demo.fallback: null -> {json.dumps(FALLBACK['fallback'])}": "  applied at once",
        "models.demo.max_batch_size: 64 -> 7": "  waits for: ./ew restart demo",
        "models.lazy.max_batch_size: 64 -> 9": "  at the next load, or now: ./ew restart lazy",
        "gateway.admin_port: null -> 1": "  waits for: ./ew stop, then ./ew start",
        "gateway.max_connections: 8192 -> 500": "  applied now",
        "limits.max_waiting: 1024 -> 5": "  applied at once",
        "logs.max_bytes: 52428800 -> 2000000": "  applied now",
    }
    assert eventually(lambda: routes_of(ready, "demo") == FALLBACK["fallback"]["to"])
    assert long.result(60).count("") == 100
    assert host.find_worker("demo-0").pid == worker
    # The model that is not loaded has its new description, the loaded one its old.
    assert eventually(lambda: settings_of("lazy-0").get("max_batch_size") == 9)
    assert settings_of("demo-0")["max_batch_size"] == 64
    left = [line for line in ready.run("config", "diff").out.splitlines() if line[0] != " "]
    assert left == [
        "models.demo.max_batch_size: 64 -> 7",
        "gateway.admin_port: null -> 1",
    ]
    assert ready.run("load", "lazy").code == 0
    eventually(lambda: host.find_worker("lazy-0").slots == 9)
    # A model that is loaded takes its new settings when it comes again.
    change(ready, models={"lazy": {**model(ready, "lazy"), "max_batch_size": 11}})
    assert "at the next load" in ready.run("reload").out
    assert host.find_worker("lazy-0").slots == 9
    assert ready.run("unload", "lazy").code == 0
    assert eventually(lambda: settings_of("lazy-0").get("max_batch_size") == 11)


def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(
    host: Host, ready: Terminal
) -> None:
    good = ready.config.read_text()
    run = read_run()
    assert run is not None
    ready.config.write_text(good.replace('"max_batch_size"', '"max_bach_size"', 1))
    refused = ready.run("reload")
    assert refused.code == 1
    why = "unknown key `models.demo.max_bach_size`; did you mean `max_batch_size`?"
    assert f"{ready.config}:1: {why}" in refused.err
    os.kill(host.supervisor_pid(), signal.SIGHUP)
    log = logs_dir() / "supervisor.log"
    eventually(lambda: f"nothing is reloaded: {ready.config}:1: {why}" in log.read_text())
    after = read_run()
    assert after is not None
    assert [each.identity for each in after.units] == [each.identity for each in run.units]
    assert [each.spec for each in after.units] == [each.spec for each in run.units]


def test_sighup_does_the_same(host: Host, ready: Terminal) -> None:
    change(ready, gateway={"max_connections": 400})
    os.kill(host.supervisor_pid(), signal.SIGHUP)
    log = logs_dir() / "supervisor.log"
    eventually(lambda: "reload: gateway.max_connections: 8192 -> 400" in log.read_text())
    eventually(lambda: "nothing differs" in ready.run("config", "diff").err)
    assert "nothing differs" in ready.run("reload").err


def test_every_key_has_its_time() -> None:
    for section, kind in SECTIONS.items():
        for key in kind.model_fields:
            assert isinstance(effect_of(section, key), Effect)


def test_without_a_supervisor_it_says_so(host: Host, terminal: Terminal) -> None:
    assert "ew does not run" in terminal.run("reload").err
