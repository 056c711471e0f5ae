"""Characters that a server cuts in two, made whole again."""

from __future__ import annotations

from collections.abc import Hashable


class Halves:
    """JSON may write a character in two halves (a surrogate pair), and servers may cut between
    them. By choice, and whatever else is told apart, the first half of one whose second has not
    come."""

    def __init__(self) -> None:
        self._held: dict[Hashable, str] = {}

    def join(self, index: Hashable, text: str) -> str:
        """Return the text that is complete now. A half without its other half becomes U+FFFD."""
        if index not in self._held and text.isascii():
            return text
        text = self._held.pop(index, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held[index] = text[:-1], text[-1]
        return whole_characters(text)

    def end(self, index: Hashable) -> str:
        """Return what is left when a choice has ended."""
        return whole_characters(self._held.pop(index, ""))


def whole_characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
