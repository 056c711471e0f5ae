"""Signs of life: what an observation says of one unit."""

from __future__ import annotations

from contract.messages import State
from orchestrator.observer import Observation
from orchestrator.unit import Unit
from orchestrator.wanted import WantedGateway, WantedValkey, WantedWorker


def take_note(unit: Unit, seen: Observation) -> None:
    """Tell a unit what was seen of its process."""
    match unit.wanted:
        case WantedValkey():
            _note_valkey(unit, seen)
        case WantedGateway():
            if seen.gateway_answers:
                unit.seen(seen.taken_at, is_ready=True)
            else:
                unit.missed(seen.taken_at)
        case WantedWorker():
            _note_worker(unit, seen)


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
    if beat is not None:
        unit.silent_since = None
        unit.beat = beat
        unit.throughput.count(seen.taken_at, beat.generated_tokens_total)
        if beat.state is State.SLEEPING:
            unit.fell_asleep(seen.taken_at)
        elif unit.state is not State.SLEEPING:
            unit.seen(seen.taken_at, is_ready=beat.state is State.READY, stage=beat.stage)
    elif seen.redis is not None and not seen.redis.get("loading"):
        unit.missed(seen.taken_at)
