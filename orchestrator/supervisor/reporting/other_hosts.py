"""The other hosts on the same Redis, for the status document."""

from __future__ import annotations

from collections import Counter

from contract.host_beat import HostBeat, has_namesake
from contract.process.host_name import VARIABLE, host_name, installation
from contract.supervision.status import HostStatus
from orchestrator.supervisor.observation import Observation
from orchestrator.terminal.sizes import MIB


def other_hosts(seen: Observation) -> list[HostStatus]:
    """Return those whose supervisors live, by name."""
    gateways = Counter(beat.host for beat in seen.gateway_beats)
    others = {each.host: each for each in seen.hosts if each.host != host_name()}
    return [_status(others[name], gateways[name]) for name in sorted(others)]


def host_problem(seen: Observation) -> str:
    """Return what is wrong with this host's name; empty if nothing is."""
    if not has_namesake(seen.hosts, host_name(), installation()):
        return ""
    return (
        f"another ew on this Redis calls itself `{host_name()}`, too, and each takes the other's "
        f"workers for its own; give one of them another name by {VARIABLE}, and restart it"
    )


def keys_problem(seen: Observation) -> str:
    """Return why this host does not have the keys of the others, as its gateway says."""
    own = (beat for beat in seen.gateway_beats if beat.host == host_name() and not beat.is_leaving)
    return next((beat.keys_problem for beat in own if beat.keys_problem), "")


def _status(beat: HostBeat, gateways: int) -> HostStatus:
    return HostStatus(
        name=beat.host,
        gateways=gateways,
        models={model: condition.state for model, condition in sorted(beat.models.items())},
        gpus=len(beat.gpus),
        gpu_used_mib=sum(gpu.used_bytes for gpu in beat.gpus) // MIB,
        gpu_total_mib=sum(gpu.total_bytes for gpu in beat.gpus) // MIB,
    )
