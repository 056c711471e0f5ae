"""`./ew service`: the unit, and what the supervisor tells its service manager."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.orchestrator.terminal import Terminal


def models_that_run(terminal: Terminal) -> list[str]:
    shown = json.loads(terminal.run("status", "--json").out)
    return [model["id"] for model in shown["models"]]


class Manager:
    """The end of a service manager at which its services' words arrive."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(20)

    def heard(self) -> str:
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    manager = Manager(getattr(request, "param", None) or f"{tmp_path}/notify")
    yield manager
    manager.close()


@pytest.mark.parametrize(
    "manager", ["", f"@ew-test-{os.getpid()}"], indirect=True, ids=["path", "abstract"]
)
def test_the_supervisor_tells_its_service_manager(manager: Manager, terminal: Terminal) -> None:
    told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    supervisor = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator", "service", "run"],
        env=terminal.environment | told | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    try:
        first = {manager.heard(), manager.heard()}
        assert first == {"READY=1", "WATCHDOG=1"}
        assert manager.heard() == "WATCHDOG=1"
        assert terminal.run("status").code == 0
        supervisor.send_signal(signal.SIGTERM)
        while (word := manager.heard()) == "WATCHDOG=1":
            pass
        assert word == "STOPPING=1"
        assert supervisor.wait(20) == 0
    finally:
        supervisor.kill()
        supervisor.wait()


def _has_datagram(manager: Manager) -> bool:
    manager._socket.setblocking(False)
    try:
        return bool(manager._socket.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        manager._socket.settimeout(20)


def test_nobody_else_hears_of_the_service_manager(manager: Manager, terminal: Terminal) -> None:
    """A start by hand inside another service: that one's manager is not this supervisor's."""
    terminal.configure(m={})
    terminal.environment["NOTIFY_SOCKET"] = manager.address
    assert terminal.run("start").code == 0
    assert not _has_datagram(manager)
    assert terminal.run("stop").code == 0


def test_a_second_supervisor_is_refused_for_good(terminal: Terminal) -> None:
    terminal.configure(m={})
    assert terminal.run("start").code == 0
    refused = terminal.run("service", "run")
    assert (refused.code, "outside of this service" in refused.err) == (78, True)
    shown = terminal.run("service", "show", "--system").out
    assert "RestartPreventExitStatus=78" in shown
    assert terminal.run("stop").code == 0


def test_what_was_stopped_stays_stopped(terminal: Terminal) -> None:
    terminal.configure(a={}, b={})
    assert terminal.run("start", "a").code == 0
    assert terminal.run("start", "--unless-running").code == 0
    assert models_that_run(terminal) == ["a"]
    assert terminal.run("stop").code == 0
    assert terminal.run("start", "--unless-running").code == 0
    assert models_that_run(terminal) == ["a", "b"]
    assert terminal.run("stop").code == 0


def test_the_unit_names_the_places_of_this_project(terminal: Terminal) -> None:
    terminal.environment["EW_STATE_DIR"] = "/tmp/100% mine"
    shown = terminal.run("service", "show", "--user").out
    assert 'Environment="EW_STATE_DIR=/tmp/100%% mine"' in shown
    assert "EnvironmentFile=-/tmp/100%% mine/service.env" in shown
    assert "User=" not in shown
    assert "CapabilityBoundingSet" not in shown
    assert "WantedBy=default.target" in shown


def test_a_host_without_systemd_is_told_so(terminal: Terminal, tmp_path: Path) -> None:
    terminal.environment |= {"PATH": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path)}
    refused = terminal.run("service", "install", "--user")
    assert (refused.code, "this host has no systemd" in refused.err) == (1, True)
    assert not list(tmp_path.glob("systemd/**/*.service"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this host has no systemd-analyze")
def test_systemd_finds_no_fault_in_the_unit(terminal: Terminal, tmp_path: Path) -> None:
    unit = tmp_path / "ew.service"
    unit.write_text(terminal.run("service", "show", "--system").out)
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    # In tenths: docs/service.md says 4.3.
    bound = ["--offline=yes", "--threshold=43", str(unit)]
    rated = subprocess.run(
        ["systemd-analyze", "security", *bound], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout[-300:] + rated.stderr
