"""The life of a supervised process as one table: what it shall be, where it is, what happens.

A command or the loader sets the `Goal`. The `Phase` is what the supervisor knows of the process.
Each `LifeEvent` is looked up with both in `LIFE`, which has the next phase and what the fleet does.
Nothing else moves a phase: no state or text that is shown, and not the account of GPU memory,
which follows (`orchestrator.gpu.ledger`).

    PENDING ──► STARTING ──► READY ──► SUSPENDING ──► ASLEEP ──► WAKING ──► READY
       │           │           └─► DRAINING ─┐           │          │
       ▼           └────────────────────► RELEASING ◄────┴──────────┘
    FAILED                                   └──► PENDING

From every phase with a process, its end leads to PENDING. A unit without a place is FAILED, or
STRANDED if it is asleep, until it is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import product
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from contract.messages import State


class Goal(str, Enum):
    """The state that a process shall be in."""

    RUN = "run"
    #: Not serve until its model is asked for, and keep its weights in the host's memory.
    SLEEP = "sleep"
    #: Not run until its model is asked for.
    UNLOADED = "unloaded"
    STOPPED = "stopped"


class Phase(str, Enum):
    """Where a process is in its life."""

    #: There is no process, but there may be one.
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    #: It was told to sleep: it finishes its answers, then hands the GPU's memory back.
    SUSPENDING = "suspending"
    ASLEEP = "asleep"
    WAKING = "waking"
    #: It sleeps, and there is no room for it to wake: it sleeps on until it is asked for again.
    STRANDED = "stranded"
    #: It was told to leave as soon as its answers have ended.
    DRAINING = "draining"
    #: It was told to stop, and has little time for it.
    RELEASING = "releasing"
    #: There is no process, and will be none until it is asked for again.
    FAILED = "failed"


class LifeEvent(Enum):
    """An event of a process, as the supervisor is told or sees it."""

    #: Nothing stands in the way of the next step to its goal.
    DUE = "due"
    #: A new description waits for it to leave, and it can be spared.
    REPLACED = "replaced"
    #: A command or the loader set its goal anew: former failures are forgotten.
    ASKED = "asked"
    #: It says that it serves.
    SERVES = "serves"
    #: It says that it sleeps.
    SLEEPS = "sleeps"
    #: It has ended, and so has all that it started.
    EXITED = "exited"
    #: Another start is of no use, or there is no place for it.
    REFUSED = "refused"
    #: A new supervisor finds its process running.
    ADOPTED = "adopted"
    #: A new supervisor finds that its process is gone.
    LOST = "lost"


class Action(Enum):
    """An act of the fleet, when a phase is left or an event changes none."""

    NOTHING = "nothing"
    START = "start"
    WAKE = "wake"
    #: Tell it to finish its answers and sleep.
    SUSPEND = "suspend"
    #: Tell it to leave when its answers have ended.
    RETIRE = "retire"
    TERMINATE = "terminate"
    #: Start it again as if for the first time: it left because it was told to.
    RENEW = "renew"
    #: Count its death; start it again after a while, or give it up.
    RETRY = "retry"


class Step(NamedTuple):
    phase: Phase
    action: Action = Action.NOTHING


#: The phases in which there is no process.
AT_REST: Final = frozenset({Phase.PENDING, Phase.FAILED})
#: The phases from which it leaves, whatever its goal has become.
LEAVING: Final = frozenset({Phase.DRAINING, Phase.RELEASING})
#: The phases in which its weights are in the host's memory alone.
SLEEPING: Final = frozenset({Phase.ASLEEP, Phase.STRANDED})
_ALIVE: Final = frozenset(Phase) - AT_REST

_RETIRE: Final = Step(Phase.DRAINING, Action.RETIRE)
_TERMINATE: Final = Step(Phase.RELEASING, Action.TERMINATE)
_RETRY: Final = Step(Phase.PENDING, Action.RETRY)
_RENEW: Final = Step(Phase.PENDING, Action.RENEW)

#: Only what serves, or still answers while it falls asleep, has something to finish.
_LEAVE: Final = {
    Phase.STARTING: _TERMINATE,
    Phase.READY: _RETIRE,
    Phase.SUSPENDING: _RETIRE,
    Phase.ASLEEP: _TERMINATE,
    Phase.WAKING: _TERMINATE,
    Phase.STRANDED: _TERMINATE,
}
_Moves: TypeAlias = Mapping[Phase, Step]


def _to(phase: Phase, *sources: Phase) -> dict[Phase, Step]:
    return dict.fromkeys(sources, Step(phase))


def _always(moves: _Moves) -> dict[Goal, _Moves]:
    return dict.fromkeys(Goal, moves)


#: By event and goal, what changes a phase or calls for an action; all else leaves it as it is.
_MOVES: Final[Mapping[LifeEvent, Mapping[Goal, _Moves]]] = {
    LifeEvent.DUE: {
        Goal.RUN: {
            Phase.PENDING: Step(Phase.STARTING, Action.START),
            Phase.ASLEEP: Step(Phase.WAKING, Action.WAKE),
        },
        Goal.SLEEP: {Phase.READY: Step(Phase.SUSPENDING, Action.SUSPEND)},
        Goal.UNLOADED: _LEAVE,
        Goal.STOPPED: dict.fromkeys(_ALIVE - {Phase.RELEASING}, _TERMINATE),
    },
    LifeEvent.REPLACED: _always(_LEAVE),
    LifeEvent.ASKED: _always(
        {**_to(Phase.PENDING, Phase.FAILED), **_to(Phase.ASLEEP, Phase.STRANDED)}
    ),
    LifeEvent.SERVES: _always(_to(Phase.READY, Phase.STARTING, Phase.WAKING)),
    # A worker that was told to wake may not have heard: it is told again.
    LifeEvent.SLEEPS: _always(_to(Phase.ASLEEP, *(_ALIVE - LEAVING - {Phase.STRANDED}))),
    LifeEvent.EXITED: {
        **_always(_to(Phase.PENDING, *_ALIVE)),
        Goal.RUN: {**dict.fromkeys(_ALIVE, _RETRY), **dict.fromkeys(LEAVING, _RENEW)},
    },
    LifeEvent.REFUSED: {
        **_always({**_to(Phase.FAILED, Phase.PENDING), **_to(Phase.STRANDED, Phase.ASLEEP)}),
        Goal.STOPPED: {},
    },
    # Former orders are given again, with fresh patience. Only its word makes it asleep.
    LifeEvent.ADOPTED: _always(_to(Phase.READY, *(_ALIVE - {Phase.STARTING, Phase.WAKING}))),
    LifeEvent.LOST: {
        **_always(_to(Phase.PENDING, *_ALIVE)),
        Goal.STOPPED: _to(Phase.PENDING, *Phase),
    },
}

LIFE: Final[Mapping[tuple[Goal, Phase, LifeEvent], Step]] = MappingProxyType(
    {
        (goal, phase, event): _MOVES[event][goal].get(phase, Step(phase))
        for goal, phase, event in product(Goal, Phase, LifeEvent)
    }
)

_SHOWN: Final = {
    Phase.PENDING: State.STOPPED,
    Phase.STARTING: State.STARTING,
    Phase.READY: State.READY,
    Phase.SUSPENDING: State.SLEEPING,
    Phase.ASLEEP: State.SLEEPING,
    Phase.WAKING: State.STARTING,
    Phase.STRANDED: State.FAILED,
    Phase.DRAINING: State.STOPPING,
    Phase.RELEASING: State.STOPPING,
    Phase.FAILED: State.FAILED,
}


def shown(goal: Goal, phase: Phase) -> State:
    """Return the state that people and programs are shown."""
    if phase is Phase.PENDING and goal is Goal.RUN:
        return State.STARTING
    return _SHOWN[phase]
