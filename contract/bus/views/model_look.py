"""A look at models: their workers, their registrations and their queues, in one round trip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from contract.bus.client import LuaScript, RedisClient
from contract.bus.heartbeats import FORGET_MS, Heartbeats
from contract.bus.queue import GROUP, JobQueue
from contract.bus.registration import registrations

_look: Final = LuaScript("look", "living")


class ModelLook(NamedTuple):
    """A model as Redis has it. `beats` and `registrations` are still encoded; of the `unfinished`
    jobs, `waiting` are unclaimed; `dead_letter` is the id of the last one, `0` if there is none."""

    beats: list[bytes]
    registrations: list[bytes]
    unfinished: int
    waiting: int
    dead_letter: str


async def look_at_models(db: RedisClient, models: Iterable[str]) -> dict[str, ModelLook]:
    """Look at each model, in one round trip for all. Raises `RedisError`, `OSError`."""
    names = list(models)
    if not names:
        return {}
    answers = await _look.map(db, [(_keys(db, model), [GROUP, FORGET_MS]) for model in names])
    return {
        model: ModelLook(_there(beats), _there(words), length, length - claimed, dead.decode())
        for model, (beats, words, length, claimed, dead) in zip(names, answers, strict=True)
    }


def _keys(db: RedisClient, model: str) -> list[str]:
    queue = JobQueue(db, model)
    return [
        queue.key,
        queue.dead_letters.key,
        *Heartbeats(db, model).keys,
        *registrations(db, model).keys,
    ]


def _there(bodies: list[bytes | None]) -> list[bytes]:
    """A lease may be there without a heartbeat."""
    return [body for body in bodies if body is not None]
