"""How what runs is replaced by what the configuration says now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from orchestrator.protocol.specs import UnitSpec

#: In which a gateway starts all of its processes, one after another.
_RENEWAL_S: Final = 180.0


class Succession:
    """Of one unit: it leaves for its `replacement` and comes back; or it is a gateway, which stays
    and replaces its processes itself. Times are monotonic seconds."""

    def __init__(self) -> None:
        #: The description for its next start, which comes as soon as it can be spared.
        self.replacement: UnitSpec | None = None
        #: Gateways know that jobs may wait for its model.
        self.is_announced = False
        #: It leaves, or has left, to come back: meanwhile its model may be waited for.
        self.is_returning = False
        #: Why the last restart came to nothing.
        self.notice = ""
        self._since = 0.0
        #: The processes of a gateway that are to leave.
        self._former: frozenset[str] = frozenset()
        self._until = 0.0

    @property
    def is_under_way(self) -> bool:
        return self.replacement is not None or bool(self._former)

    def replace(self, spec: UnitSpec, now: float) -> None:
        self.replacement, self._since = spec, now
        self.is_announced, self.is_returning, self.notice = False, True, ""

    def announced(self, taken_at: float) -> None:
        """Gateways were told what is registered, at this time."""
        self.is_announced |= self.replacement is not None and taken_at >= self._since

    def renew(self, former: Collection[str], now: float) -> None:
        """A gateway replaces these processes."""
        self._former, self._until = frozenset(former), now + _RENEWAL_S
        self.notice = ""

    def serves_by(self, serving: Collection[str], now: float) -> None:
        """Take note of the processes of a gateway that take new connections."""
        if self._former and serving and self._former.isdisjoint(serving):
            self._former = frozenset()
        elif self._former and now > self._until:
            self._former = frozenset()
            self.notice = "goes on as it was: its log says why nothing was replaced"

    def arrived(self) -> None:
        """It is ready; another replacement may be waiting."""
        self.is_returning = self.replacement is not None

    def ended(self) -> UnitSpec | None:
        """Take note that its process has ended. Return its replacement, if it has one."""
        replacement, self.replacement = self.replacement, None
        self.is_announced, self._former = False, frozenset()
        return replacement
