"""The status tells what a host's own gateway says of the keys that hosts share."""

from __future__ import annotations

from contract.gateway_beat import GatewayBeat
from contract.process.host_name import host_name
from orchestrator.supervisor.observation import Observation
from orchestrator.supervisor.reporting.other_hosts import keys_problem


def seen(*beats: GatewayBeat) -> Observation:
    return Observation(0.0, {}, "", {}, {}, {}, list(beats), True)


def test_processes_that_are_replaced_and_other_hosts_have_no_say() -> None:
    own = host_name()
    leaving = GatewayBeat("a", own, 1, is_leaving=True, keys_problem="of before")
    other = GatewayBeat("b", "another", 1, keys_problem="of another")
    good, bad = GatewayBeat("c", own, 2), GatewayBeat("d", own, 3, keys_problem="of now")
    assert keys_problem(seen(leaving, other, good)) == ""
    assert keys_problem(seen(leaving, other, good, bad)) == "of now"
