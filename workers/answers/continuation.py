"""Going on with an answer that another worker began: what was published, and where to resume."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from contract.bus.claims import Attempt
from contract.bus.client import RedisClient
from contract.bus.replies import first_id, scan_frames
from contract.messages import Delta, Done, Envelope, Failed, Job, ReasoningDelta, Started
from workers.answers.transcript import Transcript

#: Text lags its tokens by part of a character, or by a stop string; never by more than this.
_LONGEST_LAG_TOKENS: Final = 64
#: The character to which tokenizers decode bytes that are not, or not yet, one.
_HALF_A_CHARACTER: Final = "\ufffd"


class Published(NamedTuple):
    """The part of a job's answer that its client was sent: its transcript and token ids, and the
    next sequence number. `end`: also its end. `is_torn`: the beginning is not kept any more, so
    no worker can go on."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    next_seq: int = 0
    end: Done | Failed | None = None
    is_torn: bool = False
    reasoning_tokens: int = 0


class ResumePoint(NamedTuple):
    """Go on after the first `keep` emitted tokens; the engine will then say `suppress` again."""

    keep: int
    suppress: str


def read_published(envelopes: Iterable[Envelope], fence: int) -> Published:
    """Fold a job's envelopes, in stream order, as its gateway does: `Started` fences off earlier
    attempts, and sequence numbers seen before are repetitions. Stops at attempt `fence`."""
    text: list[str] = []
    tokens = array("I")
    transcript = Transcript()
    current = next_seq = reasoning = 0
    for envelope in envelopes:
        if envelope.attempt >= fence:
            break
        if isinstance(envelope.event, Started):
            current = max(current, envelope.attempt)
        elif _is_beyond(envelope, current, next_seq):
            return Published(is_torn=True)
        elif envelope.attempt == current and envelope.seq == next_seq:
            next_seq += 1
            if isinstance(envelope.event, Done | Failed):
                return Published("".join(text), tuple(tokens), next_seq, envelope.event)
            if isinstance(envelope.event, Delta):
                text.append(transcript.delta(envelope.event))
                reasoning += _reasoning_tokens(envelope.event)
                tokens.frombytes(envelope.event.tokens)
    return Published("".join(text), tuple(tokens), next_seq, reasoning_tokens=reasoning)


async def published_before(db: RedisClient, attempts: Sequence[Attempt]) -> dict[str, Published]:
    """Return by job what its client was sent before the attempt's fence, which must be out. Raises
    `RedisError`."""
    envelopes: dict[str, list[Envelope]] = {attempt.job.id: [] for attempt in attempts}
    kept_from = {}
    for reply, first in _earliest(attempts).items():
        kept_from[reply] = await first_id(db, reply)
        async for _, frame in scan_frames(db, reply, first):
            for envelope in frame:
                if envelope.job_id in envelopes:
                    envelopes[envelope.job_id].append(envelope)
    published = {}
    for attempt in attempts:
        said = read_published(envelopes[attempt.job.id], attempt.number)
        if said.next_seq == 0 and _place(attempt.first) < _place(kept_from[attempt.reply]):
            said = Published(is_torn=attempt.first != "0")
        published[attempt.job.id] = said
    return published


def _earliest(attempts: Sequence[Attempt]) -> dict[str, str]:
    """By reply stream, the first entry after which any of the attempts' answers may begin."""
    firsts: defaultdict[str, list[str]] = defaultdict(list)
    for attempt in attempts:
        firsts[attempt.reply].append(attempt.first)
    return {reply: min(found, key=_place) for reply, found in firsts.items()}


def _place(entry: str) -> tuple[int, int]:
    """Return an entry id's place in its stream."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


def _reasoning_tokens(delta: Delta) -> int:
    return len(delta.tokens) // 4 if isinstance(delta, ReasoningDelta) else 0


def _is_beyond(envelope: Envelope, attempt: int, seq: int) -> bool:
    """Return whether something that came before an envelope is missing."""
    if not isinstance(envelope.event, Delta | Done):
        return False
    return envelope.attempt > attempt or (envelope.attempt == attempt and envelope.seq > seq)


def can_hand_over(job: Job) -> bool:
    """Return whether another worker may go on with an answer, from its tokens or by saying it
    again. Several choices and log probabilities cannot be told apart afterwards."""
    return job.sampling.n == 1 and job.sampling.logprobs is None


def forces_calls(job: Job) -> bool:
    """Return whether the answer must be calls of tools."""
    return job.tools is not None and job.tools.choice in ("required", "named")


def can_continue(job: Job) -> bool:
    """Return whether an answer may go on from its tokens: a grammar would start again at its
    root, and calls that are demanded are forced by one."""
    is_free = job.sampling.guided is None and not forces_calls(job)
    return is_free and can_hand_over(job)


def resume_point(
    decode: Callable[[Sequence[int]], str], emitted: Sequence[int], sent: str
) -> ResumePoint:
    """Return where to go on, given tokens that may run ahead of the text sent: part of a character,
    or what was held back because a stop string might begin there.

    Keeps the most tokens whose text the client has in full; the rest is generated again.
    """
    # Some tokenizers drop the space before the first word of whatever they decode.
    lead = " " if sent.startswith(" ") and not decode(emitted).startswith(" ") else ""
    for keep in range(len(emitted), max(0, len(emitted) - _LONGEST_LAG_TOKENS), -1):
        text = lead + decode(emitted[:keep])
        if sent.startswith(text) and not text.endswith(_HALF_A_CHARACTER):
            return ResumePoint(keep, sent[len(text) :])
    return ResumePoint(0, sent)
