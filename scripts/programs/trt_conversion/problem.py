"""Problems that the user can fix."""

from __future__ import annotations


class Problem(Exception):
    """`message` names the thing, `hint` the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
