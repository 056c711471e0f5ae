"""A model as its workers and supervisors tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from contract.asked import MediaKind
from contract.bus.registration import Registration
from contract.messages import Heartbeat, State


@dataclass(frozen=True)
class ModelAvailability:
    """A model's state is that of its most advanced worker. `registration` is what the supervisor
    says of one that is loaded on demand."""

    state: State
    workers: tuple[Heartbeat, ...] = ()
    waiting: int = 0
    registration: Registration | None = None

    @property
    def is_served(self) -> bool:
        """Whether a job would be worked on, now or when the model has been loaded."""
        return self.state is State.READY or (
            self.registration is not None and not self.registration.problem
        )

    @property
    def is_available(self) -> bool:
        """The same, but for a model that is restarted: it may take long, and others may fall in."""
        is_returning = self.registration is not None and self.registration.is_returning
        return self.is_served and (self.state is State.READY or not is_returning)

    @cached_property
    def takes(self) -> frozenset[MediaKind] | None:
        """The media that it takes; None while it has no worker that would know."""
        if not self.workers:
            return None
        return frozenset(kind for worker in self.workers for kind in worker.takes)

    @property
    def may_take_media(self) -> bool:
        return self.registration is not None if self.takes is None else bool(self.takes)

    @property
    def max_model_len(self) -> int | None:
        """Prompt and answer together, in tokens, as far as known."""
        return max((worker.max_model_len for worker in self.workers), default=0) or None
