"""The facts of one reply."""

from __future__ import annotations

import time

from contract.figures import ModelFigures
from contract.keys import KeyRecord
from contract.messages import Done, Status
from gateway.http.headers import RequestContext
from gateway.streams.answers import AnswerSink
from gateway.streams.reply_phase import ReplyPhase
from gateway.streams.sse import NOTHING, EventId
from gateway.tracing.job_trace import JobTrace


class ReplyFacts:
    """The state of one job's answer as it comes in.

    `resumable`: the job goes on when its client leaves, which may come back for the answer.
    `after`: the last event that its client has from former connections. `patience_s`: how long it
    may wait for a worker beyond the limits.
    """

    # Python 3.11 keeps more than 30 attributes in a dictionary, which takes longer.
    __slots__ = (
        "__weakref__",
        "_after",
        "_is_fresh",
        "_told",
        "_told_at",
        "answer",
        "attempt",
        "attempts",
        "began",
        "context",
        "end",
        "ended",
        "failed_with",
        "first",
        "first_at",
        "first_attempt",
        "heard_at",
        "is_current",
        "job_id",
        "left",
        "look_at",
        "may_wait_s",
        "metrics",
        "model",
        "next_seq",
        "patience_s",
        "phase",
        "position",
        "resumable",
        "since",
        "spoke_at",
        "started_at",
        "tokens",
        "tokens_counted",
        "trace",
    )

    def __init__(
        self,
        job_id: str,
        model: str,
        answer: AnswerSink,
        context: RequestContext,
        metrics: ModelFigures,
        first: str,
        *,
        resumable: bool,
        after: EventId = NOTHING,
        patience_s: float = 0.0,
    ) -> None:
        now = time.monotonic()
        self.job_id = job_id
        self.model = model
        self.resumable = resumable
        self.patience_s = patience_s
        #: The entry of the reply stream after which this answer begins.
        self.first = first
        #: How long it may wait for its turn, if its request says so.
        self.may_wait_s: float | None = None
        #: How many jobs were before it when it was put.
        self.position = 0
        #: The number of the attempt that is heard, and of the first; how many were begun.
        self.attempt = self.first_attempt = self.attempts = 0
        self.next_seq = 0
        self._after = after
        #: Nothing of the attempt itself has come yet.
        self._is_fresh = False
        self.ended = False
        #: Its good end.
        self.end: Done | None = None
        #: The client is gone, and the reply is read on for when it comes back.
        self.left = False
        self.failed_with = ""
        #: Since they were counted last, and those before.
        self.tokens = self.tokens_counted = 0
        self.phase = ReplyPhase.QUEUE
        #: Its job was put, and what had been published of it before was read.
        self.is_current = False
        self.began = self.since = self.spoke_at = self.heard_at = now
        self.started_at = self.first_at = 0.0
        #: Until then nothing is due that time alone brings.
        self.look_at = 0.0
        #: None once its client is gone.
        self.answer: AnswerSink | None = answer
        self.context = context
        #: Its spans, where traces are on.
        self.trace: JobTrace | None = None
        self.metrics = metrics
        self._told: Status | None = None
        self._told_at = 0.0

    @property
    def key_id(self) -> str:
        """The id of the request's API key; empty if it has none."""
        return self.context.key.id if self.context.key else ""

    @property
    def goes_on(self) -> bool:
        """Whether there was something that its client had not."""
        return self.next_seq > self._after.seq + 1

    @property
    def request_id(self) -> str:
        return self.context.request_id

    @property
    def key(self) -> KeyRecord | None:
        """The record of the request's API key."""
        return self.context.key
