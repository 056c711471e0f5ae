"""Why something does not run."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something does not run. `log_tail` are the last lines that it wrote."""

    message: str
    hint: str = ""
    log_tail: list[str] = []
