"""The faults, dealt like cards: in each round every kind comes once, in an order that the seed
decides. A fault tells how it is known that it happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hosts import Host, Setting, state_of
from proxy import Proxy
from streams import Client, leave

_SEEN_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.02
#: A process that a fault is for may be starting just now.
_TARGET_WITHIN_S: Final = 20.0
_CUT_AT_ONCE: Final = 8
#: Of these a host may have several, with a number or a name behind.
_SEVERAL: Final = ("gateway process", "worker")


class NotDone(Exception):
    """A fault that could not be made to happen."""


@dataclass
class Record:
    """The faults of a run."""

    done: Counter[str] = field(default_factory=Counter)
    not_done: Counter[str] = field(default_factory=Counter)
    #: Each with its second of the run, its kind and its proof.
    log: list[dict[str, Any]] = field(default_factory=list)


class Faults:
    """Those that a setting can have. `scale` shortens standstills, but for those that are to be
    longer than a lease holds (10 s)."""

    def __init__(
        self,
        setting: Setting,
        proxy: Proxy,
        clients: Sequence[Client],
        dice: random.Random,
        scale: float,
    ) -> None:
        self._setting, self._proxy, self._clients = setting, proxy, clients
        self._random = dice
        self.record = Record()
        self._began = time.monotonic()
        self._running: set[asyncio.Task[None]] = set()
        killed, kept = setting.killed, setting.kept
        self.kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "gateway killed": lambda: self._kill(killed, "gateway"),
            "gateway process killed": lambda: self._kill(killed, "gateway process"),
            "worker killed": lambda: self._kill(killed, "worker"),
            "Valkey killed": lambda: self._kill(killed, "valkey"),
            "supervisor killed": self._kill_supervisor,
            "Valkey stopped": lambda: self._stop(killed, "valkey", 1 * scale, 3 * scale),
            "gateway process stopped": lambda: self._stop(
                kept, "gateway process", 2 * scale, 5 * scale
            ),
            "worker stopped": lambda: self._stop(kept, "worker", 2 * scale, 5 * scale),
            "worker stopped beyond its lease": lambda: self._stop(kept, "worker", 12, 13),
            "supervisor stopped": lambda: self._stop(kept, "supervisor", 3 * scale, 8 * scale),
            "host cut off from Redis": lambda: self._pause(1 * scale, 4 * scale),
            "host cut off beyond its leases": lambda: self._pause(12, 13),
            "connections to Redis reset": self._reset,
            "client connections cut": self._cut,
            "client left for good": self._leave,
        }

    async def run(self, every_s: tuple[float, float], until: float) -> None:
        """Deal them until that time (monotonic), and wait until all are over. A standstill goes on
        while the next faults happen. A kind that never happened by then is tried again."""
        deck: list[str] = []
        while time.monotonic() < until:
            if not deck:
                deck = list(self.kinds)
                self._random.shuffle(deck)
            await self._begin(deck.pop(), every_s)
        await asyncio.gather(*self._running)
        for kind in [kind for kind in self.kinds if not self.record.done[kind]]:
            await self._begin(kind, every_s)
        await asyncio.gather(*self._running)

    async def _begin(self, kind: str, every_s: tuple[float, float]) -> None:
        await asyncio.sleep(self._random.uniform(*every_s))
        task = asyncio.create_task(self._do(kind))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _do(self, kind: str) -> None:
        entry: dict[str, Any] = {"at_s": round(time.monotonic() - self._began, 1), "kind": kind}
        self.record.log.append(entry)
        try:
            entry["proof"] = await self.kinds[kind]()
            self.record.done[kind] += 1
        except (NotDone, OSError, RuntimeError, TimeoutError) as error:
            entry["not_done"] = str(error) or type(error).__name__
            self.record.not_done[kind] += 1

    async def _kill(self, host: Host, what: str) -> str:
        name, pid = await self._target(host, what)
        os.kill(pid, signal.SIGKILL)
        await _seen(lambda: not state_of(pid), f"{name} ({pid}) did not end")
        return f"{host.name}: {name} ({pid}) has ended"

    async def _kill_supervisor(self) -> str:
        host = self._setting.killed
        proof = await self._kill(host, "supervisor")
        await host.ew("start")
        return f"{proof}; `ew start` took over as {host.status()['supervisor']['pid']}"

    async def _stop(self, host: Host, what: str, least_s: float, most_s: float) -> str:
        name, pid = await self._target(host, what)
        seconds = self._random.uniform(least_s, most_s)
        os.kill(pid, signal.SIGSTOP)
        try:
            await _seen(lambda: state_of(pid) in ("T", ""), f"{name} ({pid}) did not stop")
            await asyncio.sleep(seconds)
            found = state_of(pid)
        finally:
            if state_of(pid):
                os.kill(pid, signal.SIGCONT)
        if found != "T":
            raise NotDone(f"{name} ({pid}) did not stand still to the end")
        return f"{host.name}: {name} ({pid}) stood still for {seconds:.1f} s"

    async def _pause(self, least_s: float, most_s: float) -> str:
        seconds = self._random.uniform(least_s, most_s)
        self._proxy.pause()
        try:
            await asyncio.sleep(seconds)
            held = self._proxy.held
        finally:
            self._proxy.resume()
        if not held:
            raise NotDone("nothing was on its way")
        return f"{held} connections were held back for {seconds:.1f} s"

    async def _reset(self) -> str:
        if not (count := self._proxy.reset()):
            raise NotDone("there was no connection")
        return f"{count} connections were reset"

    async def _cut(self) -> str:
        chosen = self._random.sample(self._clients, min(_CUT_AT_ONCE, len(self._clients)))
        if not (count := sum(client.cut() for client in chosen)):
            raise NotDone("no stream was open")
        return f"{count} clients were cut off"

    async def _leave(self) -> str:
        host = self._random.choice((self._setting.killed, self._setting.kept))
        if not await leave(host.port, self._setting.leavers_key):
            raise NotDone("it had no token to leave after")
        return f"a client of {host.name} left after its first token"

    async def _target(self, host: Host, what: str) -> tuple[str, int]:
        """One process of that kind that does not stand still. Raises `NotDone` if there is none for
        long."""
        deadline = time.monotonic() + _TARGET_WITHIN_S
        while time.monotonic() < deadline:
            found = [
                (name, pid)
                for name, pid in host.pids().items()
                if _is(name, what) and state_of(pid) not in ("T", "")
            ]
            if found:
                return self._random.choice(found)
            await asyncio.sleep(0.2)
        raise NotDone(f"{host.name} has no {what}")


def _is(name: str, what: str) -> bool:
    return name == what or (what in _SEVERAL and name.startswith(f"{what} "))


async def _seen(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise NotDone(otherwise)
        await asyncio.sleep(_LOOK_EVERY_S)
