"""The requests of all gateway processes. A process writes its own here only while an operator
looks."""

from __future__ import annotations

import msgspec

from contract.bus.client import RedisClient
from contract.messages import UNREADABLE

#: Processes write for so long after the last look.
_WATCHED_S = 10
_KEPT_S = 15
_WATCHED = "ew:{_board}:watched"
_REQUESTS = "ew:{_board}:requests"


class RequestView(msgspec.Struct, frozen=True, array_like=True):
    """One request and where it stands. `state` is `waiting` (for a worker), `starting` (a worker
    has it, no token came), `streaming`, and in the end `done`, `failed` (with the code `error`) or
    `left` (its client did). `position` is how many jobs waited before it when it came."""

    job_id: str
    request_id: str
    model: str
    key_id: str
    key_name: str
    state: str
    began_unix_s: float
    position: int = 0
    attempts: int = 0
    tokens: int = 0
    queue_ms: float = 0.0
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    error: str = ""


_decode = msgspec.msgpack.Decoder(list[RequestView]).decode


class RequestBoard:
    """Raises `RedisError`."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db

    async def is_watched(self) -> bool:
        return bool(await self._db.exists(_WATCHED))

    async def watch(self) -> bool:
        """Have all processes write for a while. Return whether they did already."""
        before = await self._db.set(_WATCHED, 1, ex=_WATCHED_S, get=True)
        return before is not None

    async def write(self, process: str, requests: list[RequestView]) -> None:
        """Replace what a process has on the board."""
        pipe = self._db.pipeline(transaction=True)
        pipe.hset(_REQUESTS, process, msgspec.msgpack.encode(requests))
        pipe.expire(_REQUESTS, _KEPT_S)
        await pipe.execute()

    async def remove(self, process: str) -> None:
        """A process leaves."""
        await self._db.hdel(_REQUESTS, process)

    async def read(self) -> dict[str, list[RequestView]]:
        """Return the requests by process; those of a process of another version are left out."""
        found: dict[str, list[RequestView]] = {}
        for process, body in (await self._db.hgetall(_REQUESTS)).items():
            try:
                found[process.decode()] = _decode(body)
            except UNREADABLE:
                continue
        return found
