"""Requests on their way into queues: those that come while others are put share a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, proxy

from redis.asyncio.connection import DefaultParser

from contract.bus.client import LuaScript, RedisClient, raised
from contract.bus.connection.gathered_calls import GatheredCalls

_enqueue: Final = LuaScript("enqueue", "apart", "jobs", "turns", "media", "limits")
#: The class of an error by the first word of what the server says.
_error_in: Final[Callable[[str], Exception]] = DefaultParser.parse_error
_gathering: WeakKeyDictionary[RedisClient, GatheredCalls] = WeakKeyDictionary()


class Put(NamedTuple):
    """One request, as `scripts/enqueue.lua` takes it: the keys of its queue (and of who is ready
    for it) and of its jobs, the queue's group, and all words of the request."""

    queue_keys: tuple[str, ...]
    job_keys: Sequence[str]
    group: str
    words: Sequence[Any]


async def put_gathered(db: RedisClient, put: Put) -> Any:
    """Put a request; those that are asked for while a round trip is under way share the next one.
    Raises `RedisError`, and `TimeoutError`: as when the caller is cancelled, it may have been put
    or may yet."""
    calls = _gathering.get(db)
    if calls is None:
        lent = proxy(db)
        calls = _gathering[db] = GatheredCalls(lambda puts: _put_all(lent, puts))
    return await calls.ask(put)


async def put_apart(db: RedisClient, put: Put) -> Any:
    """The same by a connection of its own, for one that is large: it holds up no others."""
    keys, args = _call([put])
    return raised([_outcome(each) for each in await _enqueue.apart(db, keys, args)])[0]


async def _put_all(db: RedisClient, puts: Sequence[Put]) -> list[Any]:
    """Return the outcome of each: an answer, or its error. Those for one queue share a call."""
    by_queue: dict[tuple[str, ...], list[int]] = {}
    for number, put in enumerate(puts):
        by_queue.setdefault(put.queue_keys, []).append(number)
    calls = [_call([puts[number] for number in numbers]) for numbers in by_queue.values()]
    found: list[Any] = [None] * len(puts)
    for numbers, answer in zip(by_queue.values(), await _enqueue.outcomes(db, calls), strict=True):
        failed = isinstance(answer, Exception)
        for place, number in enumerate(numbers):
            found[number] = answer if failed else _outcome(answer[place])
    return found


def _outcome(answer: Any) -> Any:
    """Return the answer to one request, or its error: those beside it have answers of their own."""
    return _error_in(answer[1].decode()) if answer[0] == b"failed" else answer


def _call(puts: Sequence[Put]) -> tuple[list[str], list[Any]]:
    keys = [*puts[0].queue_keys, *(key for put in puts for key in put.job_keys)]
    return keys, [puts[0].group, *(word for put in puts for word in put.words)]
