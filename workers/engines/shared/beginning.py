"""Where an answer begins: at its prompt, or after what another worker published of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from contract.messages import Job, Sampling
from workers.continuation import resume_point
from workers.engines.prompts import Prompts
from workers.engines.shared.prompt_only import tell_prompt
from workers.outbox import Outbox


class Beginning(NamedTuple):
    """The input of an engine: the prompt's tokens with those `emitted` before after them, and the
    most tokens that it may add."""

    inputs: list[int]
    prompt_tokens: int
    emitted: int
    max_tokens: int


async def begin(
    job: Job, prompts: Prompts, outbox: Outbox, answer_limit: Callable[[Sampling, int], int]
) -> Beginning | None:
    """Read the prompt, and tell the outbox what the engine will say again. `answer_limit` gives the
    most tokens of an answer after a prompt of so many. None: there is no room for more, or
    nothing to generate, and the answer has ended. Raises `JobRejected`."""
    if job.report is not None:
        tell_prompt(job, job.report, await prompts.token_ids(job), prompts, outbox)
        return None
    prompt_ids = await prompts.token_ids(job)
    emitted = list(job.emitted)
    if job.sent or emitted:
        keep, again = resume_point(prompts.decode, emitted, job.sent)
        outbox.suppress(job.id, again, keep)
        emitted = emitted[:keep]
    max_tokens = answer_limit(job.sampling, len(prompt_ids)) - len(emitted)
    if max_tokens <= 0:
        outbox.done(job.id, ("length",), len(prompt_ids))
        return None
    outbox.expect(job.id, len(prompt_ids))
    return Beginning(prompt_ids + emitted, len(prompt_ids), len(emitted), max_tokens)
