"""The errors that reach a person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can fix; exit code 1. `message` names the thing, `hint` the next step;
    `field` is the key that was refused, where it was one."""

    def __init__(self, message: str, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
