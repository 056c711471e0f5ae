"""Jobs that ask for the tokens of a prompt, or for the text of tokens, and nothing else."""

from __future__ import annotations

from contract.asked import PromptReport
from contract.messages import Job
from workers.engines.prompts import Prompts
from workers.engines.shared.deltas import prompt_deltas
from workers.outbox import Outbox


def tell_prompt(
    job: Job, report: PromptReport, ids: list[int], prompts: Prompts, outbox: Outbox
) -> None:
    """Answer such a job, given the tokens of its prompt."""
    names = prompts.names_of(ids) if report.names else ()
    outbox.say_first(job.id, prompt_deltas(ids, prompts.text_of(job, ids), names))
    outbox.done(job.id, ("stop",), len(ids))
