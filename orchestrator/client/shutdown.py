"""Stopping things and waiting until they are gone."""

from __future__ import annotations

import os
import select
from typing import Final

from orchestrator.client.reach import has_unfinished_run, reach_supervisor
from orchestrator.client.stages import Stages, follow_to_the_end, say_why_nothing_was_done
from orchestrator.errors import UserError
from orchestrator.protocol.control import Control, Stop
from orchestrator.protocol.start_turn import stop_starts
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import say

_SUPERVISOR_LEAVES_WITHIN_S: Final = 10.0


def shut_down(request: Stop) -> bool:
    """Stop what is asked, and wait. False if nothing ran. Ctrl-C while it waits stops at once."""
    if not request.models:
        stop_starts()
    control = _reach()
    if control is None:
        return False
    with control:
        _stop(control, request)
    return True


def _reach() -> Control | None:
    """Return the supervisor; one whose processes outlived it gets a successor, which can end
    them."""
    control = reach_supervisor()
    if control is None and has_unfinished_run():
        # Starting processes takes more imports than a stop needs otherwise.
        from orchestrator.client.connect import connect_or_spawn

        control = connect_or_spawn()
    return control


def _stop(control: Control, request: Stop) -> None:
    try:
        supervisor = os.pidfd_open(control.peer())
    except ProcessLookupError:
        # It left between our call and our look; all that it had was stopped before.
        return
    try:
        _ask(control, request)
        if not request.models:
            select.select([supervisor], [], [], _SUPERVISOR_LEAVES_WITHIN_S)
    finally:
        os.close(supervisor)


def _ask(control: Control, request: Stop) -> None:
    try:
        outcomes = follow_to_the_end(control.ask(request), Stages(Progress()))
    except KeyboardInterrupt:
        if request.now:
            raise
        say("stopping at once")
        stop_now = Stop(models=request.models, now=True)
        again = reach_supervisor()
        if again is not None:
            with again:
                _ask(again, stop_now)
        return
    say_why_nothing_was_done(outcomes or [])
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; stop again")
