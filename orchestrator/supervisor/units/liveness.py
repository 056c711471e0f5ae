"""Signs of life: what an observation says of one unit."""

from __future__ import annotations

from contract.messages import State
from contract.process.host_name import host_name
from orchestrator.protocol.life import LifeEvent, Phase
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, ValkeySpec
from orchestrator.supervisor.observation import Observation
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.unit import Unit


def take_note(unit: Unit, seen: Observation) -> None:
    """Tell a unit what was seen of its process, if it has one."""
    if unit.child is None:
        return
    match unit.spec:
        case ValkeySpec():
            _note_valkey(unit, seen)
        case GatewaySpec():
            _note_gateway(unit, unit.child, seen)
        case ReplicaSpec():
            _note_worker(unit, unit.child, seen)


def heard(
    unit: Unit, now: float, *, is_ready: bool, stage: str = "", downloaded_bytes: int = 0
) -> None:
    """Take note of a sign of life."""
    unit.patience.heard()
    is_arriving = unit.phase in (Phase.STARTING, Phase.WAKING)
    if is_arriving and is_ready:
        unit.advance(LifeEvent.SERVES, now)
        unit.succession.arrived()
    elif not unit.is_leaving:
        if is_arriving:
            unit.patience.downloaded(unit.spec, downloaded_bytes, now)
        unit.display.stage = stage


def missed(unit: Unit, now: float) -> None:
    """Take note that there should have been a sign of life, and was none."""
    unit.patience.missed(unit.phase, now)
    silent_s = unit.patience.silent_s(now)
    if unit.phase is Phase.READY and silent_s is not None:
        unit.display.stage = f"silent for {silent_s:.0f} s"


def _note_gateway(unit: Unit, child: Child, seen: Observation) -> None:
    """One that does not answer in time is busy as long as its processes go on beating; those
    whose event loop stands still end themselves."""
    has_beaten = _has_beaten(child, seen)
    unit.succession.serves_by(_serving(child, seen), seen.taken_at)
    if seen.gateway_answers:
        heard(unit, seen.taken_at, is_ready=True)
    elif has_beaten and unit.phase is Phase.READY:
        heard(unit, seen.taken_at, is_ready=True, stage="busy")
    else:
        missed(unit, seen.taken_at)


def _has_beaten(gateway: Child, seen: Observation) -> bool:
    """Return whether there is a heartbeat of one of its processes that was not there before."""
    host, pid = host_name(), gateway.process.pid
    ours = {
        beat.name: beat.count
        for beat in seen.gateway_beats
        if beat.host == host and pid in (beat.pid, beat.parent_pid)
    }
    before, gateway.gateway_beats = gateway.gateway_beats, ours
    return any(before.get(name) != count for name, count in ours.items())


def _serving(gateway: Child, seen: Observation) -> set[str]:
    """Return those of its processes that take new connections."""
    return {
        beat.name
        for beat in seen.gateway_beats
        if beat.name in gateway.gateway_beats and not beat.is_leaving
    }


def _note_valkey(unit: Unit, seen: Observation) -> None:
    if not seen.redis_answers:
        missed(unit, seen.taken_at)
    elif seen.redis is None:
        heard(unit, seen.taken_at, is_ready=False)
    elif seen.redis.get("loading"):
        heard(unit, seen.taken_at, is_ready=False, stage="loading the queue's data")
    else:
        heard(unit, seen.taken_at, is_ready=True)


def _note_worker(unit: Unit, child: Child, seen: Observation) -> None:
    beat = seen.beats.get(child.name)
    answers = seen.redis is not None and not seen.redis.get("loading")
    if answers and unit.is_leaving:
        unit.patience.answered(seen.taken_at, beat)
    if beat is not None:
        unit.patience.heard()
        child.beat = beat
        child.throughput.count(seen.taken_at, beat.generated_tokens_total)
        if beat.state is State.SLEEPING:
            unit.advance(LifeEvent.SLEEPS, seen.taken_at)
        elif unit.phase is not Phase.SUSPENDING and not unit.is_asleep:
            heard(
                unit,
                seen.taken_at,
                is_ready=beat.state is State.READY,
                stage=beat.stage,
                downloaded_bytes=beat.downloaded_bytes,
            )
    elif answers:
        missed(unit, seen.taken_at)
