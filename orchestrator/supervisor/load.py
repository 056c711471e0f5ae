"""What is known of a model's loads: what asks for the next one, and how long the last ones took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LoadRequest:
    """Clients, or the operator, wait for a model. `since` is in monotonic seconds."""

    since: float
    #: It ends when the model is there, not when no job waits any more.
    is_operators: bool = False
    #: What stands between the model and its place: for people to read.
    waits_for: str = ""


@dataclass
class LoadTimes:
    """Since when a model is loaded, in monotonic seconds, and how long that took."""

    #: None while it is not there, or on its way.
    loaded_at: float | None = None
    load_s: float | None = None
    wake_s: float | None = None

    def arrived(self, now: float, took_s: float, *, is_woken: bool) -> None:
        """Its workers serve. `took_s` is 0 where it is not known."""
        if self.loaded_at is None:
            self.loaded_at = now
            if took_s and is_woken:
                self.wake_s = took_s
            elif took_s:
                self.load_s = took_s

    def found_asleep(self, now: float) -> None:
        """A new supervisor finds it so."""
        self.loaded_at = self.loaded_at or now

    def return_s(self, *, sleeps: bool) -> float:
        """Return how long it takes to have it back, as far as known."""
        return (self.wake_s if sleeps else None) or self.load_s or 0.0
