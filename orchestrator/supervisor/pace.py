"""How often the supervisor looks at what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.supervisor.units.unit import Unit

_PACE_S: Final = 1.0
#: While something starts, people wait for it: for what takes moments at first, for an engine later.
_PACE_WHILE_STARTING_S: Final = 0.2
_PACE_AT_FIRST_S: Final = 0.1
_AT_FIRST_S: Final = 3.0


def pace_s(starting: Sequence[Unit], now: float) -> float:
    """Return the time between two looks while these units start."""
    if not starting:
        return _PACE_S
    last_began_at = max((unit.child.began_at for unit in starting if unit.child), default=now)
    return _PACE_AT_FIRST_S if now - last_began_at < _AT_FIRST_S else _PACE_WHILE_STARTING_S
