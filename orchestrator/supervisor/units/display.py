"""The state and stage of a unit as people see them. Nothing is decided by them."""

from __future__ import annotations

import time
from typing import Final

from contract.messages import State
from orchestrator.protocol.life import LEAVING, Goal, Phase

_STAGES: Final = {
    Phase.STARTING: "starting",
    Phase.SUSPENDING: "going to sleep",
    Phase.ASLEEP: "wakes on demand",
    Phase.WAKING: "waking",
}


class Display:
    """A state, since when it holds, and a few words about it (`stage`)."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.stage = ""
        self.since_unix_s = time.time()
        #: The same in monotonic seconds.
        self.since = time.monotonic()

    def show(self, state: State, stage: str = "") -> None:
        """Show a state; its time begins anew only if it is another one."""
        if state is not self.state:
            self.state = state
            self.since_unix_s, self.since = time.time(), time.monotonic()
        self.stage = stage


def stage_on_entry(goal: Goal, phase: Phase, before: Phase) -> str:
    """Return the words for a phase that was just entered."""
    if phase is Phase.PENDING:
        return "loads on demand" if goal in (Goal.SLEEP, Goal.UNLOADED) else ""
    if phase in LEAVING:
        return "draining" if before is Phase.READY else ""
    return _STAGES.get(phase, "")
