"""Where an answer's text must end, and how much of it may be sent before that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Cut(NamedTuple):
    """The first `length` characters may be sent. `stopped` is the stop string that they end before,
    empty if the text may go on."""

    length: int
    stopped: str = ""


class StopStrings:
    """TensorRT-LLM and SGLang stream a stop string's beginning before they recognise the stop, so
    text that may be one is held back here."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._longest = max(map(len, strings), default=0)

    def cut(self, text: str, start: int) -> Cut:
        """Return where to cut `text`, of which the first `start` characters were sent already."""
        found = [(at, stop) for stop in self._strings if (at := text.find(stop, start)) >= 0]
        if found:
            return Cut(*min(found, key=lambda each: each[0]))
        for held in range(min(self._longest - 1, len(text) - start), 0, -1):
            if self._may_begin(text[-held:]):
                return Cut(len(text) - held)
        return Cut(len(text))

    def _may_begin(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._strings)
