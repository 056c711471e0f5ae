"""The spans of one job: its waits, its attempts with their claims and engines, its stream."""

from __future__ import annotations

from typing import Final

from contract.asked import TraceContext
from contract.messages import Done, EngineTimes, Started
from gateway.tracing.attributes import of_answer
from gateway.tracing.span import AttributeValue, Span, SpanMaker

#: Ends that are no fault: of a client that was heard of no more, or wanted no more.
NO_FAULTS: Final = frozenset({"client_left", "cancelled", "slow_client"})


class JobTrace:
    """Told of a job's turns as its reply takes them, a few times in its life and never per token.

    All times are of this process: a worker tells how long its parts took, and these are counted
    from when its `Started` was read here. So spans lie in order, whatever the clocks of hosts say;
    they are late by the transport of that one message.
    """

    def __init__(self, spans: SpanMaker, span: Span, began: float) -> None:
        self._spans = spans
        self._span = span
        #: Since when the job waits for a worker.
        self._waits_since: float | None = began
        self._began = began
        self._attempt: Span | None = None
        self._attempts = 0
        self._started_at = began
        #: The times that the worker told at the end, if it did.
        self.engine: EngineTimes | None = None

    @property
    def context(self) -> TraceContext:
        """The job's span, for its worker's engine to continue."""
        return self._span.context.carried()

    def start(self, started: Started, now: float, last: float) -> None:
        """An attempt begins. If the one before was lost, its last word came at `last`."""
        former = self._attempt
        if former is not None and self._waits_since is None:
            self._end_attempt("lost", last)
        since = self._waits_since if self._waits_since is not None else last
        claimed_at = min(now, max(since, now - started.claimed_us_ago / 1_000_000))
        self._spans.note("queue", since, claimed_at, self._span)
        self._attempts += 1
        about: dict[str, AttributeValue] = {
            "ew.attempt": self._attempts,
            "ew.worker": started.worker,
        }
        self._attempt = self._spans.begin("attempt", claimed_at, self._span, about)
        self._attempt.link = former.context if former is not None else None
        self._spans.note("claim", claimed_at, now, self._attempt)
        self._started_at, self._waits_since = now, None

    def wait(self, now: float) -> None:
        """The job gave its place to another one, and waits again."""
        if self._waits_since is None:
            self._end_attempt("yielded", now)
            self._waits_since = now

    def end(self, end: Done | None, error: str, first_at: float, now: float) -> None:
        """The job ended, well or with the code of an error; or else its client has left."""
        code = "" if end is not None else error or "client_left"
        if end is not None:
            self.engine = end.times
        if self._waits_since is None:
            if self._attempt is not None:
                self._note_engine(self._attempt, now)
            self._end_attempt("done" if end is not None else code, now)
        else:
            self._spans.note("queue", self._waits_since, now, self._span)
        if first_at:
            self._spans.note("stream", first_at, now, self._span)
        waited_s = first_at - self._began if first_at else None
        self._span.attributes.update(of_answer(end, waited_s))
        if code in NO_FAULTS:
            self._span.attributes["ew.end"] = code
        elif code:
            self._span.fail(code)
        self._spans.end(self._span, now)

    def _end_attempt(self, how: str, at: float) -> None:
        if self._attempt is None:
            return
        self._attempt.attributes["ew.end"] = how
        if how == "lost":
            self._attempt.fail("engine_lost")
        elif how not in NO_FAULTS | {"done", "yielded"}:
            self._attempt.fail(how)
        self._spans.end(self._attempt, at)

    def _note_engine(self, attempt: Span, now: float) -> None:
        times = self.engine
        if times is None:
            return
        begin = min(now, self._started_at + times.submitted_us / 1_000_000)
        end = min(now, self._started_at + times.ended_us / 1_000_000)
        span = self._spans.begin("engine", begin, attempt, {})
        if times.first_us is not None:
            first = min(end, self._started_at + times.first_us / 1_000_000)
            span.events.append(("first_token", self._spans.ns(first)))
        self._spans.end(span, end)
