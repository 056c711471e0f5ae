"""Pieces of an answer, each with what it is part of, and how they are sent."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from contract.messages import ErrorCode, FinishReason, Job, TokenLogprob
from workers.answers.transcript import Kind
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_UNREADABLE: Final = "the model's answer could not be parsed; is its entry's parser the right one?"


class ParsedPiece(NamedTuple):
    kind: Kind
    text: str


class NewText(NamedTuple):
    """The new part of a choice; `finished`: there is no more of it."""

    text: str
    token_ids: Sequence[int]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finished: bool = False


class ChoiceReader(Protocol):
    """A choice that is read piece by piece."""

    #: Whether it has called a tool so far.
    has_called: bool

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[ParsedPiece]:
        """Return what new text means. Raises what a parser may raise."""


def say_parsed(outbox: Outbox, job_id: str, index: int, parsed: ChoiceReader, new: NewText) -> bool:
    """Send what new text of a choice means. False if that has ended the job with an error."""
    try:
        pieces = parsed.feed(new.text, new.token_ids, finished=new.finished)
    # Parsers are as many as there are models, and raise what they like.
    except Exception:
        log.exception("job %s: its answer could not be parsed", job_id)
        outbox.give_up(job_id, ErrorCode.ENGINE_FAILED, _UNREADABLE)
        return False
    tokens, logprobs = new.token_ids, new.logprobs
    for kind, text in pieces or [ParsedPiece(None, "")]:
        outbox.delta(job_id, text, tokens, index, logprobs, kind)
        tokens, logprobs = (), None
    return True


def say(
    outbox: Outbox, job_id: str, index: int, parsed: Sequence[ChoiceReader], new: NewText
) -> bool:
    """The same for an answer whose choices may be read by nothing: they are text as it is."""
    if parsed:
        return say_parsed(outbox, job_id, index, parsed[index], new)
    if new.text or new.token_ids:
        outbox.delta(job_id, new.text, new.token_ids, index, new.logprobs)
    return True


def reasons_with_calls(
    job: Job, reasons: Sequence[FinishReason], parsed: Sequence[ChoiceReader]
) -> tuple[FinishReason, ...]:
    """Return why choices have ended, where calls are an end of their own."""
    if not parsed:
        return tuple(reasons)
    return tuple(
        "tool_calls" if reason == "stop" and ends_by_calls(job, choice) else reason
        for reason, choice in zip(reasons, parsed, strict=True)
    )


def ends_by_calls(job: Job, choice: ChoiceReader) -> bool:
    """Return whether a choice has ended by its calls. As OpenAI has it: a call of the one tool that
    the request names ends as text does."""
    is_named = job.tools is not None and job.tools.choice == "named"
    return choice.has_called and not is_named


def new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
