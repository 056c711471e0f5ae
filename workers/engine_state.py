"""An engine's state as it reports it: how busy it is, and that it cannot go on."""

from __future__ import annotations

import signal
from multiprocessing import process
from typing import NamedTuple


class EngineLoad(NamedTuple):
    """How busy the engine is; `kv_cache_usage` from 0 to 1.

    `waiting` are all requests that it has not begun, or has put back. `deferred` are those of them
    that it passes over until something else is there: a compiled grammar, a place for an adapter,
    keys and values from elsewhere. Any other one waits for room. `running` is None where the engine
    does not say it.
    """

    waiting: int = 0
    kv_cache_usage: float | None = None
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    #: Answers that lost their place in the engine's cache, and were begun again; None if it does
    #: not say.
    preemptions: int | None = None
    deferred: int = 0
    running: int | None = None

    @property
    def has_no_room(self) -> bool:
        """Whether requests wait for room, and there is nothing that could give some: nothing runs,
        and none that is deferred holds a part of the cache."""
        return self.running == 0 and self.waiting > 0 and self.deferred == 0


class EngineDied(Exception):
    """The engine cannot go on; the worker must exit, and its jobs be taken over."""


class EngineHung(EngineDied):
    """The engine says nothing any more. It may not even end when it is told to."""


class EngineKilled(EngineDied):
    """A process of the engine was killed (SIGKILL); it may not be to blame."""


def was_child_killed() -> bool:
    """Return whether a process that this one started by `multiprocessing`, as engines do, was ended
    by SIGKILL. Those that the engine itself kills count, too, so ask before it cleans up."""
    # `active_children` leaves out those that have ended, and the collector those that are frozen.
    known: set[process.BaseProcess] = set(getattr(process, "_dangling", ()))
    return any(_exit_code(each) == -signal.SIGKILL for each in known)


def _exit_code(child: process.BaseProcess) -> int | None:
    try:
        return child.exitcode
    except (AssertionError, ValueError):  # a process of another one, or closed
        return None
