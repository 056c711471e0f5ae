"""Whether Redis answers, as its callers report."""

from __future__ import annotations

import logging
import math
import time

log = logging.getLogger(__name__)


class Link:
    """Down from the first command that failed until one works again."""

    def __init__(self) -> None:
        self._down_since: float | None = None
        self._up_since = -math.inf

    @property
    def is_up(self) -> bool:
        return self._down_since is None

    def down_for_s(self) -> float:
        """0 while it is up."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    def up_for_s(self) -> float:
        """Return 0 while it is down; infinity if it never was."""
        return time.monotonic() - self._up_since if self.is_up else 0.0

    def failed(self, error: BaseException) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning("Redis does not answer: %s", error or type(error).__name__)

    def worked(self) -> None:
        if self._down_since is not None:
            log.info("Redis answers again after %.1f s", self.down_for_s())
            self._down_since, self._up_since = None, time.monotonic()
