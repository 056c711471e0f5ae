"""Times as people write them: `90s`, `30m`, `12h`, `30d`, `8w`."""

from __future__ import annotations

import re
from typing import Final

from orchestrator.errors import UserError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


#: Beyond it, times are no dates any more.
_LONGEST_S: Final = 100 * 365 * 86_400


def seconds_of(text: str) -> float:
    """Raises `UserError`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text.strip().lower())
    if found is None:
        raise UserError(f"`{text}` is not a time", "write it as 90s, 30m, 12h, 30d or 8w")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST_S:
        raise UserError(f"`{text}` is too long a time", "a hundred years (5200w) are the most")
    return seconds
