"""One answer, as it arrives: what of it is a token, and when that came."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from orchestrator.benchmark.tally import Tally

_SHOWN: Final = 200


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None

    def has_text(self) -> bool:
        delta = self.delta
        if delta is None:
            return bool(self.text)
        return bool(delta.content or delta.reasoning or delta.reasoning_content or delta.tool_calls)


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Fault(msgspec.Struct):
    message: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Fault | None = None
    message: str | None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class MeasuredAnswer:
    """Takes the pieces of an answer's body, counts what they have, and judges it at its end."""

    def __init__(self, tally: Tally, due: float | None = None) -> None:
        """`due` is when the request should have been sent; now if not given."""
        self._tally = tally
        self._begun = time.monotonic() if due is None else due
        self._rest = b""
        self._last: float | None = None
        self._events = 0
        self._tokens: int | None = None
        self._is_whole = False
        self._fault = ""
        self.status = 0
        self.is_stream = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self._rest += piece
        if not self.is_stream:
            return
        *lines, self._rest = self._rest.split(b"\n")
        fresh = 0
        for line in lines:
            if line.startswith(b"data:"):
                fresh += self._take(line[5:].strip())
        if fresh:
            self._arrive(fresh)

    def _take(self, data: bytes) -> bool:
        """Whether an event has text."""
        if data == b"[DONE]":
            self._is_whole = True
            return False
        try:
            chunk = _decode(data)
        except msgspec.MsgspecError:
            self._fault = f"an event that is no chunk: {_shown(data)}"
            return False
        if chunk.error is not None:
            self._fault = chunk.error.message or _shown(data)
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self._tokens = chunk.usage.completion_tokens
        return any(choice.has_text() for choice in chunk.choices or ())

    def _arrive(self, events: int) -> None:
        now = time.monotonic()
        if self._last is None:
            self._tally.ttft.add(now - self._begun)
        else:
            self._tally.gap.add(now - self._last)
        self._last = now
        self._events += events
        self._tally.count(now, events)

    def finish(self) -> bool:
        """Count the answer at its end. Returns whether it was good."""
        now = time.monotonic()
        if self.status != 200:
            self._fault = f"{self.status}: {_message(self._rest)}"
        elif self.is_stream and not self._is_whole:
            self._fault = self._fault or "the stream broke off"
        elif not self.is_stream:
            self._read_whole(now)
        if self._fault:
            self._tally.fail(self._fault)
            return False
        self._tally.good += 1
        self._tally.latency.add(now - self._begun)
        if self._tokens is not None:
            self._tally.told_tokens += self._tokens
            self._tally.told_events += self._events
        return True

    def _read_whole(self, now: float) -> None:
        """An answer that is no stream has its tokens at its end."""
        try:
            usage = _decode(self._rest).usage
        except msgspec.MsgspecError:
            self._fault = f"the answer is no JSON: {_shown(self._rest)}"
            return
        self._tokens = self._events = (usage and usage.completion_tokens) or 0
        self._tally.count(now, self._events)


def _message(body: bytes) -> str:
    try:
        found = _decode(body)
    except msgspec.MsgspecError:
        return _shown(body)
    return (found.error and found.error.message) or found.message or _shown(body)


def _shown(data: bytes) -> str:
    return data[:_SHOWN].decode(errors="replace") or "without a word"
