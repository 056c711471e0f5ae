"""Shows how units start and stop: in place on a terminal, elsewhere line by line."""

from __future__ import annotations

import time
from collections.abc import Iterable

from contract.messages import State
from contract.paths import log_path
from contract.supervision.control import Finished, Outcome, Refused, StartProgress
from contract.supervision.problem import Problem
from orchestrator.errors import UserError
from orchestrator.protocol.control import Answer
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import complain, duration, say


class Stages:
    """The stage of each unit, as its changes come in."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._began: dict[str, float] = {}
        self._doing: dict[str, str] = {}
        self._state: dict[str, State] = {}

    def show(self, progress: StartProgress) -> None:
        """Take a change of state."""
        slot, state = progress.slot, progress.state
        before = self._state.get(slot)
        self._state[slot] = state
        if state in (State.STARTING, State.STOPPING):
            self._show_doing(progress, is_new=state is not before)
        else:
            self._show_end(progress, before)
        self.tick()

    def tick(self) -> None:
        """Show the passing of time."""
        now = time.monotonic()
        parts = [
            f"{slot}: {what} {duration(now - self._began[slot])}"
            for slot, what in self._doing.items()
        ]
        if parts:
            self._display.update(" · ".join(parts))
        else:
            self._display.clear()

    def close(self) -> None:
        self._display.clear()

    def _show_doing(self, progress: StartProgress, *, is_new: bool) -> None:
        slot = progress.slot
        if is_new:
            self._began[slot] = time.monotonic()
        self._doing[slot] = progress.stage or progress.state.value
        if progress.state is State.STARTING and progress.problem and "again" in progress.stage:
            self._display.say(f"{progress.problem.message}; {progress.stage}")

    def _show_end(self, progress: StartProgress, before: State | None) -> None:
        slot = progress.slot
        self._doing.pop(slot, None)
        if before not in (State.STARTING, State.STOPPING, State.READY):
            return
        took = duration(time.monotonic() - self._began.get(slot, time.monotonic()))
        if progress.state is State.READY and before is State.STARTING:
            self._display.say(f"{slot} is ready after {took}")
        elif progress.state is State.STOPPED:
            self._display.say(f"{slot} has stopped")


def follow_to_the_end(answers: Iterable[Answer | None], stages: Stages) -> list[Outcome] | None:
    """Show answers until the last one. None if the supervisor went away before it.

    Raises `UserError` if the request was refused.
    """
    try:
        for answer in answers:
            match answer:
                case None:
                    stages.tick()
                case StartProgress():
                    stages.show(answer)
                case Finished(outcomes=outcomes):
                    return outcomes
                case Refused(message=message, hint=hint):
                    raise UserError(message, hint)
        return None
    finally:
        stages.close()


def say_why_nothing_was_done(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.note:
            say(f"{outcome.slot} {outcome.note}")


def explain_failures(outcomes: list[Outcome]) -> bool:
    """Say why units do not run. Returns whether there was anything to say."""
    failed = [outcome for outcome in outcomes if _has_failed(outcome)]
    for outcome in failed:
        explain(outcome.slot, outcome.problem or Problem(f"{outcome.slot} does not run"))
    return bool(failed)


def _has_failed(outcome: Outcome) -> bool:
    if outcome.state is State.FAILED:
        return True
    return outcome.state is not State.READY and not outcome.note


def explain(slot: str, problem: Problem) -> None:
    """A problem in full: the last lines of the log, what happened, and the next step."""
    for line in problem.log_tail:
        say(f"  {slot} | {line}")
    complain(problem.message, problem.hint)
    log = log_path(slot)
    if log.exists():
        say(f"log: {log}")
