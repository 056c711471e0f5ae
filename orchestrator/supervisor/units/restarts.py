"""When a process that died is started again, and when that is given up."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from contract.endings import EndedBy

_WINDOW_S: Final = 600.0
_MAX_DEATHS: Final = 5
#: A process that may have been killed by somebody is started twice as often.
_SHARES: Final = {EndedBy.ITSELF: 1.0, EndedBy.UNCLEAR: 0.5, EndedBy.OUTSIDE: 0.5}
_MAX_FAILED_STARTS: Final = 3
_LONGEST_WAIT_S: Final = 60.0


class _Death(NamedTuple):
    at: float
    name: str
    share: float


class Restarts:
    """The deaths of one process. Times are monotonic seconds.

    The first is at once: clients that wait for an answer wait for this. Then waits grow from up to
    one second to up to a minute, spread at random (full jitter), so that workers that die together
    again do not come back together. Ten good minutes wipe the slate.
    """

    def __init__(self, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        #: When it may be started next.
        self.start_at = 0.0
        #: How often it was started again after a death.
        self.count = 0
        #: How often its engine stood still.
        self.hangs = 0
        self._deaths: deque[_Death] = deque()
        self._failed_starts = 0
        self._doublings = 0

    def died(
        self,
        now: float,
        *,
        up_s: float | None,
        name: str = "",
        ended_by: EndedBy = EndedBy.ITSELF,
    ) -> float | None:
        """Count a death of the process with that name, `up_s` seconds after it had become ready
        (None: it never had). Returns how long to wait for the next start, or None: no more."""
        if up_s is not None and up_s >= _WINDOW_S:
            self._forget()
        self._failed_starts = 0 if up_s is not None else self._failed_starts + 1
        self._deaths.append(_Death(now, name, _SHARES[ended_by]))
        while self._deaths[0].at <= now - _WINDOW_S:
            self._deaths.popleft()
        if self._is_too_often() or self._failed_starts >= _MAX_FAILED_STARTS:
            return None
        return self._next_wait_s()

    def forgive(self, names: Collection[str]) -> bool:
        """Something else was to blame for the deaths of these. True if they were why it was given
        up."""
        was_too_often = self._is_too_often()
        self._deaths = deque(each for each in self._deaths if each.name not in names)
        self._doublings = min(self._doublings, len(self._deaths))
        return was_too_often and not self._is_too_often()

    def again_at(self, at: float) -> None:
        """It is to be started once more, then."""
        self.count += 1
        self.start_at = at

    def begin_anew(self, now: float) -> None:
        """A start was asked for."""
        self.start_at = now
        self._forget()

    def _is_too_often(self) -> bool:
        return sum(each.share for each in self._deaths) >= _MAX_DEATHS

    def _forget(self) -> None:
        self._deaths.clear()
        self._failed_starts = 0
        self._doublings = 0

    def _next_wait_s(self) -> float:
        self._doublings += 1
        if self._doublings == 1:
            return 0.0
        return self._uniform(0.0, min(_LONGEST_WAIT_S, 2.0 ** (self._doublings - 2)))
