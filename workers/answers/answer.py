"""One open answer: what it has said, and what of the engine's words the client has already."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from contract.bus.claims import Attempt
from contract.messages import Delta, Done, EngineTimes, PromptDelta, TokenLogprob
from contract.usage import JobUse
from workers.answers.continuation import Published
from workers.answers.transcript import REASONING, Kind, ToolPiece, Transcript, delta_of
from workers.usage.attempt_clock import AttemptClock
from workers.usage.engine_time import EngineTime


class Diverged(Exception):
    """The engine was to say again what the client has, and says something else."""


class Answer:
    """The answer of one attempt; `seq` is its next sequence number."""

    __slots__ = (
        "_begun",
        "_engine_time",
        "_known_text",
        "_known_tokens",
        "_pending",
        "_published",
        "_transcript",
        "attempt",
        "cached_tokens",
        "clock",
        "has_spoken",
        "pieces",
        "prompt_counted",
        "prompt_tokens",
        "reasoning_tokens",
        "seq",
        "tokens",
    )

    def __init__(
        self, attempt: Attempt, engine_time: EngineTime, clock: AttemptClock | None = None
    ) -> None:
        self.attempt = attempt
        #: Of a job with a trace.
        self.clock = clock
        self._engine_time = engine_time
        self._begun = engine_time.begin()
        self.seq = 0
        #: All tokens of the answer so far, also those of earlier attempts.
        self.tokens = 0
        #: How many of them the client was sent as reasoning.
        self.reasoning_tokens = 0
        self.has_spoken = False
        #: How long its prompt is, as far as known, and how much of that has been counted.
        self.prompt_tokens = self.prompt_counted = 0
        self.cached_tokens = 0
        #: Pieces of text that were counted as a token each.
        self.pieces = 0
        #: By choice: tokens whose text has not come yet.
        self._pending: dict[int, bytes] = {}
        self._published: tuple[int, ...] = ()
        self._known_text = ""
        self._known_tokens: tuple[int, ...] = ()
        self._transcript = Transcript()

    def use(self) -> JobUse:
        """Return what the job has used so far, as far as known. What earlier attempts published
        counts also while it is to be said again."""
        return self._use(self._engine_time.so_far(self._begun))

    def close(self) -> JobUse:
        """Return what the job has used; the engine does not work for it any more."""
        return self._use(self._engine_time.end(self._begun))

    def _use(self, engine_s: float) -> JobUse:
        tokens = max(self.tokens, len(self._published))
        counts = (self.prompt_tokens, self.cached_tokens, tokens, self.reasoning_tokens)
        return JobUse(*counts, engine_ms=round(engine_s * 1000))

    def times(self) -> EngineTimes | None:
        """Return the engine's times, as the answer ends now; None without a trace."""
        return None if self.clock is None else self.clock.end()

    @property
    def owes_known_text(self) -> bool:
        """Whether the engine has yet to say again what the client has."""
        return bool(self._known_text)

    def opening(self) -> list[Delta]:
        """Return what is said before the first text, now that the prompt has been read."""
        if not (self.attempt.job.counts_prompt and self.prompt_tokens):
            return []
        return [PromptDelta("", b"", count=self.prompt_tokens)]

    def resume(self, published: Published) -> None:
        """Go on after what earlier attempts published."""
        self.seq = published.next_seq
        self._published = published.tokens
        self.reasoning_tokens = published.reasoning_tokens
        if isinstance(published.end, Done):
            self.count(published.end)

    def count(self, done: Done) -> None:
        """Take the numbers that the client is told at the end."""
        self.prompt_tokens, self.cached_tokens = done.prompt_tokens, done.cached_tokens
        self.tokens, self._published = done.completion_tokens, ()
        self.reasoning_tokens = done.reasoning_tokens

    def repeat(self, text: str, keep: int, after: Transcript | None = None) -> None:
        """Expect the engine to say `text` again, from token `keep` of those published on: the rest
        of a transcript, which goes on `after` its beginning."""
        self.tokens = keep
        self._known_text = text
        self._transcript = after or Transcript()
        self._known_tokens = self._published[keep:]

    def say(
        self,
        text: str,
        token_ids: Sequence[int],
        index: int,
        logprobs: tuple[TokenLogprob, ...] | None,
        kind: Kind = None,
    ) -> Delta | None:
        """Return what of this is new to the client, if anything. Tokens without text wait for
        the text that they belong to. Raises `Diverged`."""
        self.tokens += len(token_ids)
        if self._known_tokens:
            token_ids = self._new_tokens(token_ids)
        packed = array("I", token_ids).tobytes()
        if self._pending:
            packed = self._pending.pop(index, b"") + packed
        if self._known_text:
            text, kind = self._new_piece(kind, text)
        if not text and not logprobs and not (isinstance(kind, ToolPiece) and kind.name):
            self._pending[index] = packed
            return None
        self.seq += 1
        self.has_spoken = True
        if kind == REASONING:
            self.reasoning_tokens += len(packed) // 4
        return delta_of(kind, text, packed, index, logprobs)

    def rest(self) -> Iterator[Delta]:
        """Yield the tokens at its end that have no text, such as the one that ends it, where the
        job asks for tokens."""
        if self.attempt.job.report is None:
            return
        for index, packed in sorted(self._pending.items()):
            if packed:
                yield Delta("", packed, index)
                self.seq += 1

    def _new_piece(self, kind: Kind, text: str) -> tuple[str, Kind]:
        """Return what of a piece the client does not have, where it may have some."""
        rest = self._new_text(self._transcript.piece(kind, text))
        if len(rest) > len(text):
            return text, kind
        # The call has begun already.
        return rest, ToolPiece(kind.call) if isinstance(kind, ToolPiece) else kind

    def _new_text(self, text: str) -> str:
        known, self._known_text = self._known_text[: len(text)], self._known_text[len(text) :]
        if not text.startswith(known):
            raise Diverged
        return text[len(known) :]

    def _new_tokens(self, token_ids: Sequence[int]) -> Sequence[int]:
        same = 0
        for known, token_id in zip(self._known_tokens, token_ids, strict=False):
            if known != token_id:
                self._known_tokens = ()
                return token_ids[same:]
            same += 1
        self._known_tokens = self._known_tokens[same:]
        return token_ids[same:]
