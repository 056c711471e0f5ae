"""Faults from outside, as a whole run of ew meets them: what it goes on with, and what it says."""

from __future__ import annotations

import os
import signal

from contract.messages import State
from contract.supervision.status import GatewayStatus
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually


def gateway_of(host: Host) -> GatewayStatus:
    gateway = host.status().gateway
    assert gateway is not None
    return gateway


def test_a_gateway_that_dies_while_the_configuration_is_half_saved_comes_back(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={}, other={})
    assert terminal.run("start", "demo").code == 0
    whole = terminal.config.read_text()
    terminal.config.write_text(whole[: len(whole) // 2])
    assert terminal.run("start").code == 1, "the file can be used"
    eventually(lambda: "by its last good configuration" in gateway_of(host).stage)
    pid = gateway_of(host).pid or 0
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gateway_of(host).pid not in (pid, None))
    eventually(lambda: gateway_of(host).state is State.READY, 40)
    eventually(lambda: "by its last good configuration" in gateway_of(host).stage)
    said = " ".join(terminal.run("status").out.split())
    assert f"by its last good configuration: {terminal.config}:1: not valid JSON" in said
    terminal.config.write_text(whole)
    eventually(lambda: not gateway_of(host).stage)
    assert terminal.run("stop").code == 0
