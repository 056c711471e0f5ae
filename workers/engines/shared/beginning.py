"""Where an answer begins: at its prompt, or after what another worker published of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from contract.config import ModelConfig
from contract.messages import Job, Sampling
from workers.engines.prompts import Prompts
from workers.engines.shared.parsing.parsers import TextParsers, TextParsing
from workers.engines.shared.parsing.replay import resume
from workers.engines.shared.parsing.text import ParsedText
from workers.engines.shared.prompt_only import tell_prompt
from workers.outbox import Outbox


class Beginning(NamedTuple):
    """The input of an engine: the prompt's tokens with those `emitted` before after them, and the
    most tokens that it may add. `parsing` says how the answer is read, and `parsed` has a reader
    for each choice; None and none: it is text as it is."""

    inputs: list[int]
    prompt_tokens: int
    emitted: int
    max_tokens: int
    parsing: TextParsing | None = None
    parsed: Sequence[ParsedText] = ()


def answer_limit(model: ModelConfig, room: int, asked: int | None) -> int:
    """Return the most tokens that an answer may have: by the model's entry, by the `room` that the
    prompt leaves in the context, and as many as are `asked` for, if any number is."""
    limit = min(room, model.max_output_len or room)
    return min(limit, asked or limit)


async def begin(
    job: Job,
    prompts: Prompts,
    outbox: Outbox,
    limit_of: Callable[[Sampling, int], int],
    parsers: TextParsers,
) -> Beginning | None:
    """Read the prompt, and tell the outbox what the engine will say again. `limit_of` gives the
    most tokens of an answer after a prompt of so many. None: there is no room for more, or
    nothing to generate, and the answer has ended. Raises `JobRejected`."""
    if job.report is not None:
        tell_prompt(job, job.report, await prompts.token_ids(job), prompts, outbox)
        return None
    prompt_ids = await prompts.token_ids(job)
    parsing = parsers.of(job, prompt_ids)
    parsed, emitted = resume(job, outbox, parsing, prompts.decode)
    max_tokens = limit_of(job.sampling, len(prompt_ids)) - len(emitted)
    if max_tokens <= 0:
        outbox.done(job.id, ("length",), len(prompt_ids))
        return None
    outbox.expect(job.id, len(prompt_ids))
    inputs = prompt_ids + emitted
    return Beginning(inputs, len(prompt_ids), len(emitted), max_tokens, parsing, parsed)
