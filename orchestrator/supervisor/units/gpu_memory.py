"""Predicates over a unit: whether its GPU memory is measured, moving, or about to be free."""

from __future__ import annotations

from orchestrator.protocol.life import AT_REST, Goal, Phase
from orchestrator.supervisor.units.unit import Unit


def is_measured(unit: Unit) -> bool:
    """Return whether the account knows what its process has."""
    return unit.child is not None and unit.child.is_measured


def has_settled_asleep(unit: Unit) -> bool:
    """It sleeps and shall, and the account knows what it keeps."""
    return unit.goal is Goal.SLEEP and unit.is_asleep and is_measured(unit)


def is_falling_asleep(unit: Unit) -> bool:
    """It is to, or just does: its weights are not in the host's memory yet."""
    is_on_its_way = unit.phase not in AT_REST and not unit.is_asleep
    return unit.goal is Goal.SLEEP and is_on_its_way


def will_be_free(unit: Unit) -> bool:
    """Memory of it will be free soon."""
    return unit.child is not None and unit.goal is not Goal.RUN and not has_settled_asleep(unit)


def is_moving(unit: Unit) -> bool:
    """Return whether its memory on its GPUs is about to change, or has and was not measured."""
    is_unmeasured = unit.is_asleep and not is_measured(unit)
    return unit.is_leaving or unit.phase is Phase.SUSPENDING or is_unmeasured


def is_to_be_measured(unit: Unit) -> bool:
    """It has come to rest with what it has, and the account does not know that yet."""
    is_asleep = unit.is_asleep and unit.goal is Goal.SLEEP
    return not is_measured(unit) and (unit.phase is Phase.READY or is_asleep)
