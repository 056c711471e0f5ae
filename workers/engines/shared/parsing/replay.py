"""Going on with an answer that parsers read. Tokens stay the truth of it: a worker that takes one
over feeds the published tokens to a fresh parser, and goes on where that has said no more than the
client was sent. The parser's reading of the lost rest is not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from contract.messages import Job
from workers.answers.continuation import resume_point
from workers.answers.transcript import Transcript
from workers.engines.shared.parsing.pieces import ChoiceReader
from workers.outbox import Outbox

C = TypeVar("C", bound=ChoiceReader)

_HALF_A_CHARACTER: Final = "\ufffd"
#: A character has at most four bytes, each of which may be a token.
_LONGEST_CHARACTER: Final = 4


@dataclass(frozen=True)
class Replay(Generic[C]):
    """A parser that has read the first `keep` tokens of an answer. Of what the client was sent it
    has not said `again` yet, which goes on `after` what it has."""

    parsed: C
    keep: int
    again: str
    after: Transcript


class AnswerParsing(Protocol[C]):
    """How the answer to one job is read."""

    @property
    def is_constrained(self) -> bool:
        """Whether a grammar rules the answer, so that it cannot go on from its middle."""

    def new_choice(self) -> C: ...

    def replay(self, emitted: Sequence[int], sent: str) -> Replay[C]:
        """Go on with an answer of which a client has these tokens and this transcript."""


def resume(
    job: Job,
    outbox: Outbox,
    parsing: AnswerParsing[C] | None,
    decode: Callable[[Sequence[int]], str],
) -> tuple[list[C], list[int]]:
    """Begin an answer, or go on with it, and tell the outbox what the engine will say again. Return
    the readers of its choices, none if it is text as it is, and its tokens before those to come."""
    fresh = [parsing.new_choice() for _ in range(job.sampling.n)] if parsing is not None else []
    if not (job.sent or job.emitted):
        return fresh, []
    if parsing is None:
        keep, again = resume_point(decode, job.emitted, job.sent)
        outbox.suppress(job.id, again, keep)
        return fresh, list(job.emitted[:keep])
    if parsing.is_constrained:
        outbox.suppress(job.id, job.sent)
        return fresh, []
    replay = parsing.replay(job.emitted, job.sent)
    outbox.suppress(job.id, replay.again, replay.keep, replay.after)
    return [replay.parsed], list(job.emitted[: replay.keep])


@dataclass(frozen=True)
class Reading(Generic[C]):
    """The means to read an answer anew: fresh parsers, and fresh makers of text, of one token
    after the other, and of a few tokens."""

    new_choice: Callable[[], C]
    new_decoder: Callable[[], Callable[[int], str]]
    decode: Callable[[Sequence[int]], str]

    def replay(self, emitted: Sequence[int], sent: str) -> Replay[C]:
        """Read the most tokens of which the parser says nothing that the client does not have."""
        keep = self._read(emitted, sent)[1]
        while keep and self._ends_within_character(emitted[:keep]):
            keep -= 1
        parsed, _, said, after = self._read(emitted[:keep], sent)
        return Replay(parsed, keep, sent[len(said) :], after)

    def _read(self, tokens: Sequence[int], sent: str) -> tuple[C, int, str, Transcript]:
        parsed, after, said, keep = self.new_choice(), Transcript(), "", 0
        decode = self.new_decoder()
        for number, token in enumerate(tokens, start=1):
            pieces = parsed.feed(decode(token), [token], finished=False)
            said += "".join(after.piece(*piece) for piece in pieces)
            if not sent.startswith(said):
                break
            keep = number
        return parsed, keep, said, after

    def _ends_within_character(self, tokens: Sequence[int]) -> bool:
        return self.decode(tokens[-_LONGEST_CHARACTER:]).endswith(_HALF_A_CHARACTER)


def token_decoder(decode: Callable[[Sequence[int]], str]) -> Callable[[int], str]:
    """Return what makes text of one token after the other. It decodes each with those since the
    text before the last, as some tokenizers write the first of what they decode differently."""
    ids: list[int] = []
    begin = told = 0

    def step(token: int) -> str:
        nonlocal begin, told
        ids.append(token)
        text, before = decode(ids[begin:]), decode(ids[begin:told])
        if len(text) <= len(before) or text.endswith(_HALF_A_CHARACTER):
            return ""
        begin, told = told, len(ids)
        return text[len(before) :]

    return step
