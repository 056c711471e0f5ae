"""How what runs is replaced by what the configuration says now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from orchestrator.protocol.specs import UnitSpec

#: In which a gateway starts all of its processes, one after another.
_RENEWAL_S: Final = 180.0


class Replacement:
    """What a unit becomes at its next start, which comes as soon as it can be spared."""

    def __init__(self, spec: UnitSpec, now: float) -> None:
        self.spec = spec
        self._since = now
        #: Gateways know that jobs may wait for its model.
        self.is_announced = False

    def announced(self, taken_at: float) -> None:
        """Gateways were told what is registered, at this time."""
        self.is_announced |= taken_at >= self._since


class Renewal:
    """The processes of a gateway that are being replaced, while it stays."""

    def __init__(self, former: Collection[str], now: float) -> None:
        self._former = frozenset(former)
        self._until = now + _RENEWAL_S

    def is_done(self, serving: Collection[str]) -> bool:
        """Whether only others take new connections."""
        return bool(serving) and self._former.isdisjoint(serving)

    def has_failed(self, now: float) -> bool:
        return now > self._until
