"""Makes this process the parent of every orphan below it."""

from __future__ import annotations

import ctypes
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """No process that descends from this one escapes from its tree by a double fork, whatever it
    makes of its session, group and environment. Linux only; elsewhere nothing happens."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
