"""The state of something, with what is being done in it; of several, the best."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from contract.messages import State


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A state, and what is being done in it; empty if that goes without saying."""

    state: State
    stage: str = ""


_BEST_FIRST: Final = (
    State.READY,
    State.STARTING,
    State.SLEEPING,
    State.STOPPING,
    State.FAILED,
    State.STOPPED,
)


def best(conditions: Iterable[Condition]) -> Condition:
    """A model is as the best of its workers is; without any, it is stopped."""
    stopped = Condition(State.STOPPED)
    return min(conditions, key=lambda each: _BEST_FIRST.index(each.state), default=stopped)
