"""One job's answer as it comes in: put in order, fenced, timed, and told to its client."""

from __future__ import annotations

import math
import time
from typing import Final

from contract.config import LimitsConfig
from contract.messages import Delta, Done, ErrorCode, Event, Failed, Started, Status
from gateway.http.errors import ApiError
from gateway.streams.dialects import Timings
from gateway.streams.reply_facts import ReplyFacts
from gateway.streams.reply_phase import TIMEOUTS, ReplyPhase, took_too_long
from gateway.streams.sse import HEARTBEAT_EVERY_S, NOTHING
from gateway.streams.writer import SlowClient

#: A client that waits for a model to be loaded hears at least so often how long it may take.
_STATUS_EVERY_S: Final = 5.0
_LOST: Final = ApiError(ErrorCode.LOST.value, "a part of the answer was lost on its way")
#: Tokens are packed with 4 bytes each.
_TOKEN_BYTES: Final = 4
#: Python 3.11 looks for a member of an enumeration ten times as long as for this.
_TOKENS: Final = ReplyPhase.TOKENS


class Reply(ReplyFacts):
    """Hands a job's events to its answer, each once and in order, until the job has ended."""

    __slots__ = ()

    def take(self, attempt: int, seq: int, event: Event, now: float) -> None:
        """Accept an event, drop it (a repetition, or of an attempt that was fenced off), or
        fail because one before it is missing."""
        # The usual case is handled here: a call takes longer, and this is done once per token.
        if (
            seq == self.next_seq
            and attempt == self.attempt
            and isinstance(event, Delta)
            and not self.ended
            and (self._after is NOTHING or not self._after.contradicts(seq, attempt))
        ):
            self._is_fresh = False
            self.next_seq = seq + 1
            self.heard_at = self.since = self.spoke_at = now
            self.tokens += len(event.tokens) // _TOKEN_BYTES
            if self.phase is not _TOKENS:
                self._begin_tokens(now)
            if self.answer is not None:
                self.answer.delta(seq, event)
        elif attempt >= self.attempt and not self.ended:
            self.heard_at = now
            self._take_other(attempt, seq, event, now)

    def fail(self, error: ApiError) -> None:
        """End with an error."""
        if not self.ended:
            self.ended = True
            self.failed_with = self.context.error = error.code
            if self.answer is not None:
                self.answer.fail(error)

    def flush(self) -> None:
        """Send what was taken. A client too slow for it is cut off, which ends the reply."""
        if self.answer is None:
            return
        try:
            self.answer.writer.flush()
        except SlowClient:
            error = ApiError(ErrorCode.SLOW_CLIENT.value, "the answer was read too slowly")
            self.ended = True
            self.failed_with = self.context.error = error.code
            self.answer.cut(error)

    def abandon(self) -> None:
        """End after a defect, with the connection cut: what can be written is not known."""
        self.ended = True
        self.failed_with = self.context.error = "internal_error"
        if self.answer is not None:
            self.answer.writer.abort()
            self.answer = None

    def leave(self) -> None:
        """The client is gone."""
        self.answer = None
        self.left = True

    def heartbeat_if_silent(self, now: float) -> None:
        """Have something to send when nothing was for long."""
        if self.answer is not None and now - self.spoke_at >= HEARTBEAT_EVERY_S:
            self.spoke_at = now
            self.answer.heartbeat()

    def speak_soon(self) -> None:
        """Have something to send at the next look, whenever the last was."""
        self.spoke_at = -math.inf
        self.look_at = 0.0

    def pause(self, seconds: float) -> None:
        """No worker can work on the job at the moment: don't count this time against it."""
        self.since += seconds

    def wait(self, stage: str, eta_s: float | None, now: float) -> None:
        """The job waits for its model: tell the client, when there is something new."""
        status = Status(stage, self.position, eta_s)
        is_new = self._told is None or self._told.stage != stage
        if is_new or now - self._told_at >= _STATUS_EVERY_S:
            self._told, self._told_at = status, now
            self._take_status(status, now)

    def overdue(self, limits: LimitsConfig, now: float) -> ApiError | None:
        """The timeout that has passed, if one has."""
        if now - self.began > self._most_s(limits):
            return took_too_long(self.phase, self._told)
        allowed_s = self._allowed_s(limits)
        if now - self.since <= allowed_s:
            return None
        code, message = TIMEOUTS[self.phase]
        return ApiError(code.value, f"{message} ({allowed_s:g} s)")

    def put_off(self, limits: LimitsConfig, now: float) -> None:
        """Note when it is to be looked at again: when a sign of life or a timeout is due, or its
        key expires. What is due sooner, as something was heard, says so by `look_at`."""
        self.look_at = min(
            self.since + self._allowed_s(limits),
            self.began + self._most_s(limits),
            math.inf if self.answer is None else self.spoke_at + HEARTBEAT_EVERY_S,
        )
        if self.key is not None and self.key.expires_unix_s is not None:
            self.look_at = min(self.look_at, now + self.key.expires_unix_s - time.time())

    def count_tokens(self) -> None:
        """Bring the metrics up to date."""
        self.metrics.tokens += self.tokens
        self.tokens_counted += self.tokens
        self.tokens = 0

    def _most_s(self, limits: LimitsConfig) -> float:
        return limits.total_timeout_s + self.patience_s

    def _allowed_s(self, limits: LimitsConfig) -> float:
        """Return how long it may be in its phase, or from one token to the next."""
        if self.phase is ReplyPhase.QUEUE:
            return self.may_wait_s or max(limits.queue_timeout_s, self.patience_s)
        if self.phase is ReplyPhase.FIRST_TOKEN:
            return limits.first_token_timeout_s
        return limits.token_gap_timeout_s

    def _enter(self, phase: ReplyPhase) -> None:
        """Begin a phase, whose timeout may be due sooner than the last one's."""
        self.phase, self.look_at = phase, 0.0

    def _take_other(self, attempt: int, seq: int, event: Event, now: float) -> None:
        if isinstance(event, Delta):
            if self._is_next(attempt, seq):
                # Its client has another text from before.
                self.fail(_LOST)
        elif isinstance(event, Started):
            self._take_start(attempt, event, now)
        elif isinstance(event, Done):
            if self._is_next(attempt, seq):
                self._take_end(seq, event, now)
        elif isinstance(event, Failed):
            self._take_failure(event)
        else:
            self._take_wait(event, now)

    def _is_next(self, attempt: int, seq: int) -> bool:
        """Whether an event goes on where the answer is. An attempt that begins before that does
        not know what the client has (Redis lost it in a failover): its words are none to go on
        with."""
        is_next = seq == self.next_seq
        is_repetition = seq < self.next_seq and not self._is_fresh
        if attempt == self.attempt and (is_next or is_repetition):
            self._is_fresh = False
            return is_next
        self.fail(_LOST)
        return False

    def _begin_tokens(self, now: float) -> None:
        self._enter(ReplyPhase.TOKENS)
        if not self.first_at:
            self.first_at = now
            self.context.first_ms = (now - self.began) * 1000
            self.metrics.first_token_s.observe(now - self.began)

    def _take_start(self, attempt: int, started: Started, now: float) -> None:
        if attempt == self.attempt:
            return
        if self.trace is not None:
            self.trace.start(started, now, min(self.since, now))
        if self.attempt == 0:
            self.context.queue_ms = (now - self.began) * 1000
            self.metrics.queue_s.observe(now - self.began)
            self.first_attempt, self.started_at = attempt, now
        self.attempt = attempt
        self.attempts += 1
        if self.resumable and self.answer is not None:
            self.answer.begin(attempt)
        self._is_fresh = True
        self._enter(ReplyPhase.FIRST_TOKEN)
        self.since = now

    def _take_end(self, seq: int, done: Done, now: float) -> None:
        if "cancelled" in done.finish_reasons:
            self.fail(ApiError("cancelled", "the job was cancelled"))
            return
        if self._after.contradicts(seq, self.attempt, is_end=True):
            self.fail(_LOST)
            return
        self.ended, self.end = True, done
        self.context.answers.append(done)
        if self.first_at and done.completion_tokens > 1:
            spread_s = (now - self.first_at) / (done.completion_tokens - 1)
            self.metrics.token_s.observe(spread_s)
        if self.answer is not None:
            waits = self.context.queue_ms, self.context.first_ms
            self.answer.done(seq, done, Timings(*waits, (now - self.began) * 1000))

    def _take_failure(self, failed: Failed) -> None:
        if self.trace is not None:
            self.trace.engine = failed.times
        self.fail(ApiError.of(failed))

    def _take_wait(self, status: Status, now: float) -> None:
        """It gave its place to another job, and waits for one as at first."""
        self._enter(ReplyPhase.QUEUE)
        self.since = now
        if self.trace is not None:
            self.trace.wait(now)
        self._take_status(status, now)

    def _take_status(self, status: Status, now: float) -> None:
        self.spoke_at = now
        if self.answer is not None:
            self.answer.status(status)
