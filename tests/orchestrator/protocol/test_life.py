"""The table of a process's life, as a table: nothing is left out, nothing leads nowhere."""

from __future__ import annotations

from itertools import product

import pytest

from contract.messages import State
from contract.paths import ROOT
from orchestrator.protocol.life import AT_REST, LEAVING, LIFE, Action, Goal, LifeEvent, Phase, shown

#: The event that ends each phase by itself: starts and wakes end, so do sleep and leaving.
ITS_WORD = {
    Phase.STARTING: LifeEvent.SERVES,
    Phase.WAKING: LifeEvent.SERVES,
    Phase.SUSPENDING: LifeEvent.SLEEPS,
    Phase.DRAINING: LifeEvent.EXITED,
    Phase.RELEASING: LifeEvent.EXITED,
}
#: Where each goal is reached, of all phases that a process can be in.
REACHED = {
    Goal.RUN: {Phase.READY},
    Goal.SLEEP: {Phase.ASLEEP, Phase.PENDING},
    Goal.UNLOADED: {Phase.PENDING},
    Goal.STOPPED: {Phase.PENDING},
}
#: The acts of the fleet, and the phases in which each may be done.
TOLD_IN = {
    Action.START: {Phase.PENDING},
    Action.WAKE: {Phase.ASLEEP},
    Action.SUSPEND: {Phase.READY},
    Action.RETIRE: {Phase.READY, Phase.SUSPENDING},
    Action.TERMINATE: set(Phase) - AT_REST - {Phase.RELEASING},
    Action.RETRY: set(Phase) - AT_REST - LEAVING,
    Action.RENEW: set(LEAVING),
}


def test_every_event_in_every_phase_for_every_goal_has_an_answer() -> None:
    assert set(LIFE) == set(product(Goal, Phase, LifeEvent))


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("phase", Phase)
def test_every_goal_is_reached_from_every_phase(goal: Goal, phase: Phase) -> None:
    if phase in (Phase.FAILED, Phase.STRANDED):
        phase = LIFE[goal, phase, LifeEvent.ASKED].phase
    path = [phase]
    while phase not in REACHED[goal]:
        event = ITS_WORD.get(phase, LifeEvent.DUE)
        if goal is Goal.STOPPED or goal is Goal.UNLOADED:
            due = LIFE[goal, phase, LifeEvent.DUE]
            event = event if due.action is Action.NOTHING else LifeEvent.DUE
        phase = LIFE[goal, phase, event].phase
        assert phase not in path, f"{path} goes round in circles"
        path.append(phase)
    assert LIFE[goal, phase, LifeEvent.DUE] == (phase, Action.NOTHING)


def test_every_phase_can_be_reached_from_the_first() -> None:
    found, left = {Phase.PENDING}, [Phase.PENDING]
    while left:
        phase = left.pop()
        after = {LIFE[goal, phase, event].phase for goal, event in product(Goal, LifeEvent)}
        left += after - found
        found |= after
    assert found == set(Phase)


def test_nothing_is_done_where_it_makes_no_sense() -> None:
    for (_, phase, _), step in LIFE.items():
        assert step.action is Action.NOTHING or phase in TOLD_IN[step.action]


def test_what_a_process_is_told_is_told_once() -> None:
    """A fleet that looks again finds nothing to do until something has happened."""
    for (goal, _, event), step in LIFE.items():
        told = step.action in (Action.START, Action.WAKE, Action.SUSPEND, Action.RETIRE)
        if event is LifeEvent.DUE and (told or step.action is Action.TERMINATE):
            assert LIFE[goal, step.phase, LifeEvent.DUE].action is Action.NOTHING


def test_only_an_end_takes_a_process_away() -> None:
    for (_, phase, event), step in LIFE.items():
        if phase not in AT_REST and step.phase in AT_REST:
            assert event in (LifeEvent.EXITED, LifeEvent.LOST)
        if phase in AT_REST and step.phase not in AT_REST:
            assert step == (Phase.STARTING, Action.START)


@pytest.mark.parametrize("event", [LifeEvent.EXITED, LifeEvent.LOST])
def test_no_process_is_thought_to_be_there_after_its_end(event: LifeEvent) -> None:
    for goal, phase in product(Goal, Phase):
        assert LIFE[goal, phase, event].phase in AT_REST


@pytest.mark.parametrize("phase", sorted(set(Phase) - AT_REST))
def test_a_death_is_counted_only_if_nothing_asked_for_it(phase: Phase) -> None:
    expected = Action.RENEW if phase in LEAVING else Action.RETRY
    assert LIFE[Goal.RUN, phase, LifeEvent.EXITED].action is expected
    for goal in set(Goal) - {Goal.RUN}:
        assert LIFE[goal, phase, LifeEvent.EXITED] == (Phase.PENDING, Action.NOTHING)


@pytest.mark.parametrize("goal", Goal)
def test_who_leaves_leaves(goal: Goal) -> None:
    """Whatever it says, and whatever is wanted by now; only `stop` may hurry it."""
    for phase, event in product(
        LEAVING, set(LifeEvent) - {LifeEvent.EXITED, LifeEvent.LOST, LifeEvent.ADOPTED}
    ):
        step = LIFE[goal, phase, event]
        assert step.phase is phase or step == (Phase.RELEASING, Action.TERMINATE)
        assert step.phase is phase or goal is Goal.STOPPED


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("goal", Goal)
def test_a_new_supervisor_takes_over_in_every_phase(goal: Goal, phase: Phase) -> None:
    adopted = LIFE[goal, phase, LifeEvent.ADOPTED]
    lost = LIFE[goal, phase, LifeEvent.LOST]
    assert adopted.action is lost.action is Action.NOTHING
    if phase in AT_REST or phase in (Phase.STARTING, Phase.WAKING):
        assert adopted.phase is phase
    else:
        # Its order is given again: a signal may have been lost with the former supervisor.
        assert adopted.phase is Phase.READY
    is_given_up = phase is Phase.FAILED and goal is not Goal.STOPPED
    assert lost.phase is (Phase.FAILED if is_given_up else Phase.PENDING)


def test_a_stop_that_was_under_way_is_asked_for_again() -> None:
    for phase in LEAVING:
        adopted = LIFE[Goal.STOPPED, phase, LifeEvent.ADOPTED].phase
        assert LIFE[Goal.STOPPED, adopted, LifeEvent.DUE].action is Action.TERMINATE
    adopted = LIFE[Goal.SLEEP, Phase.SUSPENDING, LifeEvent.ADOPTED].phase
    assert LIFE[Goal.SLEEP, adopted, LifeEvent.DUE].action is Action.SUSPEND


@pytest.mark.parametrize("goal", [Goal.RUN, Goal.SLEEP, Goal.UNLOADED])
def test_what_is_refused_a_place_is_given_up_until_it_is_asked_for_again(goal: Goal) -> None:
    for phase, given_up in ((Phase.PENDING, Phase.FAILED), (Phase.ASLEEP, Phase.STRANDED)):
        assert LIFE[goal, phase, LifeEvent.REFUSED].phase is given_up
        assert shown(goal, given_up) is State.FAILED
        assert LIFE[goal, given_up, LifeEvent.ASKED].phase is phase
    # Its heartbeats say that it sleeps, which changes nothing.
    assert LIFE[goal, Phase.STRANDED, LifeEvent.SLEEPS] == (Phase.STRANDED, Action.NOTHING)
    assert LIFE[Goal.RUN, Phase.STRANDED, LifeEvent.DUE].action is Action.NOTHING


def test_only_what_answers_is_let_finish() -> None:
    for phase in (Phase.READY, Phase.SUSPENDING):
        for event in (LifeEvent.DUE, LifeEvent.REPLACED):
            assert LIFE[Goal.UNLOADED, phase, event] == (Phase.DRAINING, Action.RETIRE)
    for phase in (Phase.STARTING, Phase.WAKING, Phase.ASLEEP, Phase.STRANDED):
        assert LIFE[Goal.UNLOADED, phase, LifeEvent.DUE] == (Phase.RELEASING, Action.TERMINATE)


def test_a_model_that_is_not_there_is_shown_as_starting_only_if_it_shall_run() -> None:
    assert shown(Goal.RUN, Phase.PENDING) is State.STARTING
    assert {shown(goal, Phase.PENDING) for goal in set(Goal) - {Goal.RUN}} == {State.STOPPED}
    assert {shown(goal, phase) for goal, phase in product(Goal, Phase)} == set(State)


def test_architecture_draws_this_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    columns = [Goal.RUN, Goal.SLEEP, Goal.UNLOADED, Goal.STOPPED]
    for phase in Phase:
        steps = [LIFE[goal, phase, LifeEvent.DUE] for goal in columns]
        told = [
            "-" if step.action is Action.NOTHING else f"{step.action.value} → `{step.phase.value}`"
            for step in steps
        ]
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{phase.value}` |"))
        assert row.split(" | ", 2)[2] == " | ".join(told) + " |"
