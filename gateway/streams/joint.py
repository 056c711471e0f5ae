"""One answer to several jobs, for a request with several prompts."""

from __future__ import annotations

from msgspec.structs import replace

from contract.messages import Delta, Done, Status
from gateway.http.errors import ApiError
from gateway.streams.answers import AnswerSink
from gateway.streams.dialects import Timings


class JointAnswer:
    """Makes the answers of `jobs` jobs, with `choices` choices each, look like that of one job:
    its choices are those of the first job, then those of the second, and so on.

    It ends when all have ended. The first that fails ends it for all: its client is answered, and
    the rest is cancelled as if the client had left.
    """

    def __init__(self, answer: AnswerSink, jobs: int, choices: int) -> None:
        self.answer = answer
        self.choices = choices
        self.has_failed = False
        self._done: dict[int, Done] = {}
        self.parts = [JointPart(self, number) for number in range(jobs)]

    def first_open(self) -> int:
        """The first job that has not ended."""
        return next(number for number in range(len(self.parts)) if number not in self._done)

    def finish(self, number: int, done: Done, timings: Timings) -> None:
        """A job has ended well."""
        self._done[number] = done
        if len(self._done) == len(self.parts):
            ends = [self._done[each] for each in range(len(self.parts))]
            self.answer.done(0, _sum_of(ends), timings)


class JointPart:
    """The answer to one of the jobs."""

    def __init__(self, joint: JointAnswer, number: int) -> None:
        self.writer = joint.answer.writer
        self._joint = joint
        self._number = number
        self._first_choice = number * joint.choices

    def begin(self, attempt: int) -> None:
        """An answer to several prompts is asked for again from its beginning only."""

    def rename(self, name: str) -> None:
        self._joint.answer.rename(name)

    def delta(self, seq: int, delta: Delta) -> None:
        if not self._joint.has_failed:
            index = self._first_choice + delta.index
            self._joint.answer.delta(seq, replace(delta, index=index))

    def status(self, status: Status) -> None:
        if not self._joint.has_failed:
            self._joint.answer.status(status)

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        if not self._joint.has_failed:
            self._joint.finish(self._number, done, timings)

    def fail(self, error: ApiError) -> None:
        if not self._joint.has_failed:
            self._joint.has_failed = True
            self._joint.answer.fail(error)

    def cut(self, error: ApiError) -> None:
        if not self._joint.has_failed:
            self._joint.has_failed = True
            self._joint.answer.cut(error)

    def heartbeat(self) -> None:
        """One of all is enough."""
        if not self._joint.has_failed and self._joint.first_open() == self._number:
            self._joint.answer.heartbeat()


def _sum_of(ends: list[Done]) -> Done:
    return Done(
        tuple(reason for end in ends for reason in end.finish_reasons),
        sum(end.prompt_tokens for end in ends),
        sum(end.completion_tokens for end in ends),
        sum(end.cached_tokens for end in ends),
        any(end.pseudo_streamed for end in ends),
        sum(end.reasoning_tokens for end in ends),
        tuple(stop for end in ends for stop in _stop_strings(end)),
    )


def _stop_strings(end: Done) -> tuple[str, ...]:
    """One for each choice, also where the engine does not say."""
    return end.stop_strings or ("",) * len(end.finish_reasons)
