"""Checks before a unit's next step: Redis, a place on the GPUs, and its turn."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.life import AT_REST, Action, Goal, Phase
from orchestrator.protocol.specs import VALKEY, GatewaySpec, ReplicaSpec, ValkeySpec
from orchestrator.supervisor.units.former import is_seen_off
from orchestrator.supervisor.units.gpu_memory import is_measured, is_moving
from orchestrator.supervisor.units.unit import Unit


class Clearance:
    """Looks at all units of a host, by their slot, and changes none."""

    def __init__(self, units: Mapping[str, Unit], allocator: GpuAllocator) -> None:
        self._units = units
        self._allocator = allocator
        #: Stop the gateway first, then workers, then Valkey, instead of each when asked.
        self.stops_in_order = False
        self.is_redis_away = False

    def permits(self, unit: Unit, action: Action, now: float) -> bool:
        """Return whether this may be done now to move a unit towards its goal."""
        match action:
            case Action.TERMINATE | Action.RETIRE:
                return self._may_stop(unit)
            case Action.SUSPEND:
                # Only what it had awake tells what it needs when it wakes.
                return is_measured(unit) and self._may_move(unit)
            case Action.START:
                return unit.is_due(now)
            case _:
                return action is Action.WAKE

    def may_be_replaced(self, unit: Unit) -> bool:
        """One after another, and only when jobs may wait for its model."""
        if not unit.succession.is_announced or not self._may_move(unit):
            return False
        return not any(
            other.phase in (Phase.STARTING, Phase.WAKING) or other.is_waiting or other.is_leaving
            for other in self._siblings(unit)
            if other is not unit and other.is_desired
        )

    def obstacle(self, unit: Unit) -> str | None:
        """Return what keeps a unit that is due from being started or woken; None if nothing."""
        valkey = self._units.get(VALKEY)
        if valkey is not None and valkey is not unit and not self._may_be_beside(unit, valkey):
            return "waiting for valkey"
        if not isinstance(unit.spec, ReplicaSpec):
            return None
        if valkey is None and self.is_redis_away:
            return "waiting for Redis, which does not answer"
        if not self._allocator.has_looked:
            return "looking at the GPUs"
        if unit.lacks_place is not None:
            return unit.lacks_place
        return self._allocator.obstacle(unit.slot, self._moving())

    def _may_be_beside(self, unit: Unit, valkey: Unit) -> bool:
        """Whether Valkey has come far enough. A gateway takes longest to start, and bears that
        Redis is away."""
        is_coming = valkey.phase is Phase.STARTING and isinstance(unit.spec, GatewaySpec)
        return is_coming or valkey.phase is Phase.READY

    def _may_stop(self, unit: Unit) -> bool:
        if unit.goal is not Goal.STOPPED and not self._may_move(unit):
            return False
        return not self.stops_in_order or not any(
            (other.phase not in AT_REST or is_seen_off(other)) and _rank(other) < _rank(unit)
            for other in self._units.values()
        )

    def _siblings(self, unit: Unit) -> list[Unit]:
        """Return the workers of its model."""
        spec = unit.spec
        if not isinstance(spec, ReplicaSpec):
            return [unit]
        return [
            other
            for other in self._units.values()
            if isinstance(other.spec, ReplicaSpec) and other.spec.model == spec.model
        ]

    def _may_move(self, unit: Unit) -> bool:
        """Return whether its memory may leave its GPUs now, so that all can be measured
        afterwards."""
        return self._allocator.is_clear(unit.slot, self._moving())

    def _moving(self) -> set[str]:
        return {
            unit.slot
            for unit in self._units.values()
            if isinstance(unit.spec, ReplicaSpec) and is_moving(unit)
        }


def _rank(unit: Unit) -> int:
    match unit.spec:
        case GatewaySpec():
            return 0
        case ReplicaSpec():
            return 1
        case ValkeySpec():
            return 2
