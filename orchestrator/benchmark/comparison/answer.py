"""One answer of a comparison: its words, its tokens, and when they came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

_SHOWN: Final = 200
_ANSWER: Final = "answer"


class AnswerToken(msgspec.Struct, frozen=True):
    """A token as a server tells it with its log probability; `bytes` where it is no whole text."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None

    @property
    def length(self) -> int:
        """How many bytes of UTF-8 it has."""
        return len(self.token.encode()) if self.bytes is None else len(self.bytes)


class AnswerPiece(msgspec.Struct, frozen=True):
    """The text of one event, with its tokens where the server tells them. Where reasoning, a call
    of a tool, or the answer after those begins, the text says so: `[reasoning] `."""

    text: str
    tokens: list[AnswerToken]


class ReadAnswer(msgspec.Struct, frozen=True):
    """An answer at its end. Times are in seconds from the sending, but for the `gaps` between
    arrivals of text. `error` is empty where there was none."""

    pieces: list[AnswerPiece] = []
    finish_reason: str = ""
    tokens: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    gaps: list[float] = []
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def logprobs(self) -> list[AnswerToken]:
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def tokens_per_s(self) -> float | None:
        """How fast tokens came after the first one."""
        if self.first_s is None or self.tokens < 2 or self.last_s <= self.first_s:
            return None
        return (self.tokens - 1) / (self.last_s - self.first_s)


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _ChosenDelta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None

    def words(self) -> Iterator[tuple[str, str | None]]:
        """Yield all that the model said, with its kind; ids of calls are not of it."""
        yield "reasoning", self.reasoning or self.reasoning_content
        yield _ANSWER, self.content
        for call in self.tool_calls or ():
            if call.function is not None:
                yield "call", call.function.name
                yield "call", call.function.arguments


class _Logprobs(msgspec.Struct):
    """Of chat completions the first field, of completions the others."""

    content: list[AnswerToken] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None

    def read(self) -> list[AnswerToken]:
        if self.content is not None:
            return self.content
        pairs = zip(self.tokens or (), self.token_logprobs or (), strict=False)
        return [AnswerToken(*pair) for pair in pairs]


class _ChosenChoice(msgspec.Struct):
    text: str | None = None
    delta: _ChosenDelta | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Counted(msgspec.Struct):
    completion_tokens: int | None = None


class _Trouble(msgspec.Struct):
    message: str = ""


class _Event(msgspec.Struct):
    choices: list[_ChosenChoice] | None = None
    usage: _Counted | None = None
    error: _Trouble | None = None
    message: str | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnswerReader:
    """Takes the pieces of a stream's body, and tells the answer at its end."""

    def __init__(self) -> None:
        self.status = 0
        self.is_stream = False
        self._began = time.monotonic()
        self._rest = b""
        self._pieces: list[AnswerPiece] = []
        self._arrivals: list[float] = []
        self._finish_reason = ""
        self._kind = _ANSWER
        self._tokens: int | None = None
        self._is_whole = False
        self._fault = ""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self._rest += piece
        if not self.is_stream:
            return
        *lines, self._rest = self._rest.split(b"\n")
        before = len(self._pieces)
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip())
        if len(self._pieces) > before:
            self._arrivals.append(time.monotonic() - self._began)

    def finish(self) -> ReadAnswer:
        """Return the answer, once all of it was fed."""
        if self.status != 200:
            return ReadAnswer(error=f"{self.status}: {_message(self._rest)}")
        if not self.is_stream:
            return ReadAnswer(error="the answer is no stream of events")
        if self._fault or not self._is_whole:
            return ReadAnswer(error=self._fault or "the stream broke off")
        told = sum(len(piece.tokens) for piece in self._pieces)
        arrivals = self._arrivals
        return ReadAnswer(
            self._pieces,
            self._finish_reason,
            self._tokens or told or len(self._pieces),
            arrivals[0] if arrivals else None,
            arrivals[-1] if arrivals else 0.0,
            [later - former for former, later in pairwise(arrivals)],
        )

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._is_whole = True
            return
        try:
            event = _decode(data)
        except msgspec.MsgspecError:
            self._fault = f"an event that is no chunk: {_start(data)}"
            return
        if event.error is not None:
            self._fault = event.error.message or _start(data)
        if event.usage is not None:
            self._tokens = event.usage.completion_tokens or self._tokens
        for choice in event.choices or ():
            self._take_choice(choice)

    def _take_choice(self, choice: _ChosenChoice) -> None:
        self._finish_reason = choice.finish_reason or self._finish_reason
        words = [(_ANSWER, choice.text)] if choice.delta is None else choice.delta.words()
        text = "".join(self._marked(kind, each) for kind, each in words if each)
        tokens = choice.logprobs.read() if choice.logprobs is not None else []
        if text or tokens:
            self._pieces.append(AnswerPiece(text, tokens))

    def _marked(self, kind: str, text: str) -> str:
        """Return a text, and before it the kind that begins with it."""
        former, self._kind = self._kind, kind
        return text if kind == former else f"[{kind}] {text}"


def _message(body: bytes) -> str:
    try:
        found = _decode(body)
    except msgspec.MsgspecError:
        return _start(body)
    return (found.error and found.error.message) or found.message or _start(body)


def _start(data: bytes) -> str:
    return data[:_SHOWN].decode(errors="replace") or "without a word"
