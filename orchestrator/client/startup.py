"""Starting things and waiting for them, as `ew start` and `ew quickstart` do."""

from __future__ import annotations

from contract.messages import State
from contract.process.ports import EVERYWHERE
from contract.supervision.control import Outcome
from orchestrator.client.connect import ask_supervisor
from orchestrator.client.stages import Stages, explain_failures, follow_to_the_end
from orchestrator.errors import UserError
from orchestrator.protocol.control import Start
from orchestrator.protocol.specs import VALKEY
from orchestrator.protocol.start_turn import StartTurn
from orchestrator.protocol.status import read_status
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import say, warn


def bring_up(request: Start, turn: StartTurn) -> bool:
    """Start what does not run, in the background, and wait. False if something did not start;
    why has been said then."""
    check_redis(request)
    try:
        outcomes = start_and_wait(request, turn)
    except KeyboardInterrupt:
        say("it goes on in the background: `./ew status` shows it, `./ew stop` ends it")
        raise
    return not explain_failures(outcomes)


def check_redis(request: Start) -> None:
    """See that an external server can be used. Raises `UserError`."""
    if request.redis_url is not None:
        # Its client takes a fifth of the time of all that `ew start` imports.
        import asyncio

        from orchestrator.system.valkey import check_external

        for warning in asyncio.run(check_external(request.redis_url)):
            warn(warning)


def start_and_wait(request: Start, turn: StartTurn) -> list[Outcome]:
    """Ask for the start, show how it goes, and answer how it ended."""
    outcomes = follow_to_the_end(ask_supervisor(request, turn), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; start again")
    _say_why_nothing_was_done(outcomes)
    gateway = read_status().gateway
    if gateway is not None and gateway.state is State.READY:
        say(f"ew serves at {gateway.url}{_also_on(request)}")
    return outcomes


def _also_on(request: Start) -> str:
    """Return what the address that this machine uses does not show."""
    host = request.gateway.host if request.gateway else ""
    return f" and on every other address of this machine ({host})" if host in EVERYWHERE else ""


def _say_why_nothing_was_done(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        is_news = outcome.state in (State.READY, State.STOPPED) and outcome.slot != VALKEY
        if outcome.note and is_news:
            say(f"{outcome.slot} {outcome.note}")
