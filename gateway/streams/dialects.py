"""How the answers of one API are written, and what they are written from."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

from contract.messages import Delta, Done, ReasoningDelta, Status, ToolCallDelta
from gateway.http.error_answers import ErrorDialect
from gateway.http.errors import ApiError


class Timings(NamedTuple):
    """Milliseconds from the request's entry into the queue."""

    queue_ms: float
    first_token_ms: float
    total_ms: float


class AnswerChoice:
    """All that was said of one choice."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        #: By the number of the call.
        self.calls: dict[int, CallSoFar] = {}

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def add(self, delta: Delta) -> None:
        if isinstance(delta, ReasoningDelta):
            self._reasoning.append(delta.text)
        elif isinstance(delta, ToolCallDelta):
            self.calls.setdefault(delta.call, CallSoFar()).add(delta)
        else:
            self._texts.append(delta.text)


class CallSoFar:
    """One tool call of a choice."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self._arguments: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self._arguments)

    def add(self, delta: ToolCallDelta) -> None:
        self.id, self.name = self.id or delta.id, self.name or delta.name
        self._arguments.append(delta.text)


ChoiceType = TypeVar("ChoiceType", bound=AnswerChoice)


class StreamDialect(Protocol):
    """How events look on the wire of one API."""

    errors: ErrorDialect
    #: Whether events have ids, and what those have after their number (`sse.attempt_mark`).
    numbered: bool
    mark: bytes

    def opening(self) -> bytes:
        """Return the bytes before everything else."""

    def delta(self, seq: int, delta: Delta) -> bytes: ...

    def status(self, status: Status) -> bytes: ...

    def done(self, seq: int, done: Done, timings: Timings) -> bytes: ...

    def error(self, error: ApiError) -> bytes: ...


class WholeDialect(Protocol[ChoiceType]):
    """How a complete answer looks in one API. Long parts of it are encoded as they come: to
    encode all of it at its end would hold all others up."""

    errors: ErrorDialect

    def new_choice(self) -> ChoiceType: ...

    def body(self, choices: list[ChoiceType], done: Done, timings: Timings) -> bytes: ...
