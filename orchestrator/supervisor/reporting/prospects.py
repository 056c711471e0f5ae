"""How models are, and what waiting clients can expect, as far as this host goes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from contract.condition import Condition, best
from contract.host_beat import HostBeat
from contract.messages import State
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units.unit import Unit


def with_prospects(beat: HostBeat, units: Iterable[Unit]) -> HostBeat:
    """Return a heartbeat that says how the models are, which run or will again by themselves,
    and why others do not: gateways then tell the clients that wait for one of those at once."""
    conditions: dict[str, list[Condition]] = {}
    coming: set[str] = set()
    ended: dict[str, str] = {}
    hung: dict[str, int] = {}
    for unit in units:
        if not isinstance(unit.spec, ReplicaSpec):
            continue
        conditions.setdefault(unit.spec.model, []).append(Condition(unit.state, unit.stage))
        if unit.restarts.hangs:
            hung[unit.spec.model] = hung.get(unit.spec.model, 0) + unit.restarts.hangs
        if why := _why_ended(unit):
            ended[unit.spec.model] = why
        else:
            coming.add(unit.spec.model)
    return msgspec.structs.replace(
        beat,
        coming=tuple(sorted(coming)),
        ended={model: why for model, why in ended.items() if model not in coming},
        models={model: best(each) for model, each in conditions.items()},
        hung=hung,
    )


def _why_ended(unit: Unit) -> str:
    """Empty while it runs, even if it is about to stop: it finishes or gives back its answers."""
    if unit.process is not None or unit.is_parked:
        return ""
    if not unit.is_desired:
        return "it was stopped"
    if unit.state is State.FAILED:
        return unit.problem.message if unit.problem else "it has failed"
    return ""
