"""A model's loads: the request for the next one, how long the last ones took, and its use since."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class LoadRequest:
    """Clients, or the operator, wait for a model. `since` is in monotonic seconds."""

    since: float
    #: It ends when the model is there, not when no job waits any more.
    is_operators: bool = False
    #: The reason why the model has no place yet: for people to read.
    waits_for: str = ""
    #: Whether there is room for it without unloading others.
    fits: bool = False
    #: Whether it is left to another host, which loads it or has it.
    is_elsewhere: bool = False


@dataclass
class LoadTimes:
    """Since when a model is loaded, in monotonic seconds, and how long that took."""

    #: None while it is not there, or on its way.
    loaded_at: float | None = None
    load_s: float | None = None
    wake_s: float | None = None

    def arrived(self, now: float, took_s: float, *, is_woken: bool) -> bool:
        """Its workers serve. `took_s` is 0 where it is not known. Returns whether that is new."""
        if self.loaded_at is not None:
            return False
        self.loaded_at = now
        if took_s and is_woken:
            self.wake_s = took_s
        elif took_s:
            self.load_s = took_s
        return True

    def found_asleep(self, now: float) -> None:
        """A new supervisor finds it so."""
        self.loaded_at = self.loaded_at or now

    def return_s(self, *, sleeps: bool) -> float:
        """Return how long it takes to have it back, as far as known."""
        return (self.wake_s if sleeps else None) or self.load_s or 0.0


@dataclass
class ModelUse:
    """The jobs of a model, as heartbeats and the queue count them."""

    #: Monotonic seconds.
    last_used: float = field(default_factory=time.monotonic)
    #: Jobs that its workers have had.
    jobs_total: int = 0
    #: Jobs that wait or run.
    unfinished: int = 0

    def count(self, now: float, *, unfinished: int, running: int, jobs_total: int) -> None:
        """Take note of new counts: it was used if a job waits, runs, or has come and gone."""
        if unfinished or running or jobs_total != self.jobs_total:
            self.last_used = now
        self.jobs_total = jobs_total
        self.unfinished = unfinished
