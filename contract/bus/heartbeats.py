"""Which processes are alive: leases that end unless they are renewed, each with a heartbeat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from contract.bus.client import LuaScript, RedisClient
from contract.bus.clock import LEAP_MS
from contract.messages import UNREADABLE

log = logging.getLogger(__name__)
Beat = TypeVar("Beat", bound=msgspec.Struct)

LEASE_MS: Final = 10_000
BEAT_EVERY_S: Final = 2.5
#: A process that is silent for less may come back, as far as its lease can tell.
FORGET_MS: Final = LEAP_MS + 60_000
#: After a leap of the clock.
_ALL_BEAT_WITHIN_MS: Final = int(2 * BEAT_EVERY_S * 1000)
#: The gateway processes, and the supervisors. No model can be called so: ids begin with a letter
#: or a digit.
GATEWAYS: Final = "_gateways"
HOSTS: Final = "_hosts"

_beat = LuaScript("beat", even_if_full=True)
_alive = LuaScript("alive", "living")


class Seen(NamedTuple):
    """The leases at `now_ms`, by Redis' clock. `alive`: the names with a lease that holds.
    `known`: those, and the ones whose lease ended a while ago by itself; a process that has left,
    or is known to be dead, is not among them."""

    now_ms: int
    alive: frozenset[str]
    known: frozenset[str]


class Heartbeats:
    """Which processes are alive: the workers of a model (`tag` is its id), others that have a
    `role` for it, or those of a tag above."""

    def __init__(self, db: RedisClient, tag: str, role: str = "") -> None:
        self.db = db
        prefix = f"ew:{{{tag}}}:{role}:" if role else f"ew:{{{tag}}}:"
        #: Of the leases, of the names that are ready, and of the heartbeats.
        self.keys = [prefix + part for part in ("leases", "ready", "beats")]

    @property
    def ready_key(self) -> str:
        """The key of the sorted set of processes that accept work."""
        return self.keys[1]

    async def beat(self, name: str, heartbeat: msgspec.Struct, *, ready: bool) -> bool:
        """Renew the lease. True if it had lapsed: others may have taken over what this one held."""
        return bool(await _beat(self.db, *self.renewal(name, heartbeat, ready=ready)))

    def renewal(
        self, name: str, heartbeat: msgspec.Struct, *, ready: bool
    ) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments of the script that renews a lease."""
        body = msgspec.msgpack.encode(heartbeat)
        keys = [*self.keys, f"{self.keys[0]}:lapsed"]
        return keys, [name, body, LEASE_MS, int(ready), FORGET_MS, _ALL_BEAT_WITHIN_MS]

    @staticmethod
    async def beat_all(
        db: RedisClient, name: str, beats: Sequence[tuple[Heartbeats, msgspec.Struct]]
    ) -> None:
        """Renew one name's leases in several places, in one round trip; it is ready in all."""
        calls = [where.renewal(name, heartbeat, ready=True) for where, heartbeat in beats]
        await _beat.map(db, calls)

    async def alive(self) -> list[bytes]:
        """Return the heartbeats of all processes with a lease that holds, still encoded."""
        answer = await _alive(self.db, self.keys, [FORGET_MS])
        return [body for body in answer if body is not None]

    async def names(self) -> set[str]:
        """Return the names of all processes with a lease that holds."""
        seconds, micros = await self.db.time()
        now = seconds * 1000 + micros // 1000
        names = await self.db.zrangebyscore(self.keys[0], now, "+inf")
        return {name.decode() for name in names}

    async def look(self) -> Seen:
        """Return which processes live, and which are known, in one round trip."""
        pipe = self.db.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(self.keys[0], 0, -1, withscores=True)
        (seconds, micros), leases = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        alive = frozenset(name.decode() for name, ends_ms in leases if ends_ms >= now_ms)
        return Seen(now_ms, alive, frozenset(name.decode() for name, _ in leases))

    async def leave(self, name: str) -> None:
        """End a lease at once: its holder stopped, or is known to be dead."""
        pipe = self.db.pipeline(transaction=False)
        pipe.zrem(self.keys[0], name)
        pipe.zrem(self.keys[1], name)
        pipe.hdel(self.keys[2], name)
        await pipe.execute()


def read_beats(bodies: Iterable[bytes], decode: Callable[[bytes], Beat]) -> list[Beat]:
    """Return the heartbeats that can be read; the others are logged."""
    found = []
    for body in bodies:
        try:
            found.append(decode(body))
        except UNREADABLE as error:
            log.warning("a heartbeat cannot be read (is its sender of another version?): %s", error)
    return found
