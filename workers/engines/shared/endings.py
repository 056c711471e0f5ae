"""How a choice of an answer may end beside its usual ends."""

from __future__ import annotations


class EndedBadly(Exception):
    """The engine gave up on a choice; the message says with which reason."""
