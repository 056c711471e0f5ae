"""Redis' clock, which may be set."""

from __future__ import annotations

from typing import Final

#: The farthest that it may leap forward without harm to answers under way: what they need is kept
#: for so much longer than it is needed. For a process that is known to be dead, that is taken off.
LEAP_MS: Final = 2 * 3_600_000
