"""Signs of life: what an observation says of one unit."""

from __future__ import annotations

import socket

from contract.messages import State
from orchestrator.protocol.life import LifeEvent, Phase
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, ValkeySpec
from orchestrator.supervisor.observer import Observation
from orchestrator.supervisor.units.unit import Unit


def take_note(unit: Unit, seen: Observation) -> None:
    """Tell a unit what was seen of its process."""
    match unit.spec:
        case ValkeySpec():
            _note_valkey(unit, seen)
        case GatewaySpec():
            _note_gateway(unit, seen)
        case ReplicaSpec():
            _note_worker(unit, seen)


def _note_gateway(unit: Unit, seen: Observation) -> None:
    """One that does not answer in time is busy as long as its processes go on beating; those
    whose event loop stands still end themselves."""
    has_beaten = _has_beaten(unit, seen)
    unit.succession.serves_by(_serving(unit, seen), seen.taken_at)
    if seen.gateway_answers:
        unit.seen(seen.taken_at, is_ready=True)
    elif has_beaten and unit.phase is Phase.READY:
        unit.seen(seen.taken_at, is_ready=True, stage="busy")
    else:
        unit.missed(seen.taken_at)


def _has_beaten(unit: Unit, seen: Observation) -> bool:
    """Return whether there is a heartbeat of one of its processes that was not there before."""
    if unit.process is None:
        return False
    host, pid = socket.gethostname(), unit.process.pid
    ours = {
        beat.name: beat.count
        for beat in seen.gateway_beats
        if beat.host == host and pid in (beat.pid, beat.parent_pid)
    }
    before, unit.gateway_beats = unit.gateway_beats, ours
    return any(before.get(name) != count for name, count in ours.items())


def _serving(unit: Unit, seen: Observation) -> set[str]:
    """Return those of its processes that take new connections."""
    return {
        beat.name
        for beat in seen.gateway_beats
        if beat.name in unit.gateway_beats and not beat.is_leaving
    }


def _note_valkey(unit: Unit, seen: Observation) -> None:
    if not seen.redis_answers:
        unit.missed(seen.taken_at)
    elif seen.redis is None:
        unit.seen(seen.taken_at, is_ready=False)
    elif seen.redis.get("loading"):
        unit.seen(seen.taken_at, is_ready=False, stage="loading the queue's data")
    else:
        unit.seen(seen.taken_at, is_ready=True)


def _note_worker(unit: Unit, seen: Observation) -> None:
    beat = seen.beats.get(unit.name)
    answers = seen.redis is not None and not seen.redis.get("loading")
    if answers and unit.is_leaving:
        unit.patience.answered(seen.taken_at, beat)
    if beat is not None:
        unit.patience.heard()
        unit.beat = beat
        unit.throughput.count(seen.taken_at, beat.generated_tokens_total)
        if beat.state is State.SLEEPING:
            unit.advance(LifeEvent.SLEEPS, seen.taken_at)
        elif unit.phase not in (Phase.SUSPENDING, Phase.ASLEEP):
            unit.seen(
                seen.taken_at,
                is_ready=beat.state is State.READY,
                stage=beat.stage,
                downloaded_bytes=beat.downloaded_bytes,
            )
    elif answers:
        unit.missed(seen.taken_at)
