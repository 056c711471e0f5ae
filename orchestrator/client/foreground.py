"""`ew start --foreground`: the terminal holds everything, and Ctrl-C ends it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from contract.messages import State
from contract.paths import log_path
from contract.supervision.control import Finished, StartProgress
from orchestrator.client.connect import MOST_LEAVERS, connect_or_spawn
from orchestrator.client.reach import has_unfinished_run, is_running
from orchestrator.client.shutdown import shut_down
from orchestrator.client.stages import Stages, explain_failures
from orchestrator.client.startup import check_redis, start_and_wait
from orchestrator.errors import UserError
from orchestrator.protocol.control import Answer, Follow, Start, Stop
from orchestrator.protocol.start_turn import StartTurn
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import say


def run_in_foreground(request: Start, turn: StartTurn) -> bool:
    """Start, show every change, and stop all of it at SIGINT or SIGTERM, or when this process
    dies. Where the supervisor dies, it goes on with the next one. False if something did not
    start; what did start is kept all the same.

    Raises `UserError` if something runs in the background already.
    """
    if is_running() or has_unfinished_run():
        raise UserError("ew runs in the background already", "`./ew stop` first")
    check_redis(request)
    signal.signal(signal.SIGTERM, _interrupt)
    ready: set[str] | None = None
    is_good = True
    while True:
        with lifeline() as events:
            try:
                if ready is None:
                    outcomes = start_and_wait(request, turn)
                    is_good = not explain_failures(outcomes)
                    ready = {each.slot for each in outcomes if each.state is State.READY}
                if ready:
                    _show(events, set(ready))
                # One that was stopped leaves nothing behind; one that died, or was replaced, does.
                if ready and has_unfinished_run():
                    say("the supervisor is gone; another goes on with what it ran")
                    continue
            except KeyboardInterrupt:
                say("stopping; Ctrl-C again stops at once")
            shut_down(Stop())
            return is_good


@contextmanager
def lifeline() -> Iterator[Iterator[Answer | None]]:
    """Yield the answers of a supervisor that stops everything if this process goes. One that is
    just leaving is followed by another. Raises `UserError`."""
    for _ in range(MOST_LEAVERS):
        with connect_or_spawn() as control:
            events = control.ask(Follow(stop_at_end=True))
            if next(events, Finished([])) != Finished([]):
                yield events
                return
    raise UserError("one supervisor after another leaves", f"see {log_path('supervisor')}")


def _show(events: Iterable[Answer | None], ready: set[str]) -> None:
    """Show what happens until the supervisor leaves, stopped from elsewhere. How the `ready` ones
    became so has been shown."""
    say("Ctrl-C stops everything")
    stages = Stages(Progress())
    for event in events:
        if isinstance(event, StartProgress) and event.slot not in ready:
            stages.show(event)
        elif isinstance(event, StartProgress) and event.state is State.READY:
            ready.discard(event.slot)
            stages.show(event)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
