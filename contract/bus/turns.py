"""The place of a job among those that wait for the same model (the order: `scripts/turns.lua`)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from contract.asked import PriorityClass
from contract.messages import Job

#: The first goes before all others.
CLASSES: Final[tuple[PriorityClass, ...]] = ("interactive", "normal", "batch")
#: A guess, where only a tokenizer knows.
_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_MEDIUM: Final = 1_000
#: Of the answer, a key pays so many tokens beforehand; for the others when there were more.
_PREPAID_TOKENS: Final = 256


class QueuePlace(NamedTuple):
    """Jobs of one class and number are a lane, in which keys take turns by `cost` over `weight`:
    tokens, as far as they can be told beforehand."""

    rank: int
    number: int
    weight: float
    cost: int
    job_id: str
    key_id: str
    within_ms: int = 0

    def words(self) -> list[Any]:
        """Return the place as the last arguments of `scripts/enqueue.lua`."""
        lane = f"{self.rank}:{self.number}"
        return [lane, self.weight, self.cost, self.job_id, self.key_id, self.within_ms]

    @classmethod
    def read(cls, text: str) -> QueuePlace:
        """Return what Redis keeps of a job that waits."""
        lane, weight, cost, job_id, key_id = text.split(" ", 4)
        rank, _, number = lane.partition(":")
        return cls(int(rank), int(number), float(weight), int(cost), job_id, key_id)


def place_of(job: Job) -> QueuePlace:
    """Return where a job is to wait."""
    turn = job.turn
    rank = CLASSES.index(turn.priority)
    within_ms = int((turn.within_s or 0) * 1000)
    return QueuePlace(rank, turn.number, turn.weight, cost_of(job), job.id, job.key_id, within_ms)


def cost_of(job: Job) -> int:
    """Return about how many tokens a job takes; what it took in the end is settled then."""
    asked = job.sampling.max_tokens
    answer = 0 if job.pooling else min(asked or _PREPAID_TOKENS, _PREPAID_TOKENS)
    return max(1, prompt_tokens(job) + answer * job.sampling.n)


def prompt_tokens(job: Job) -> int:
    """Return about how long a prompt is, in tokens."""
    if job.prompt_ids is not None:
        return len(job.prompt_ids)
    ids = size = 0
    if job.prompt is not None:
        size += len(job.prompt.encode())
    for message in job.messages or ():
        size += len(message.content.encode())
        ids += _TOKENS_PER_MEDIUM * len(message.media)
    for each in job.pooling.inputs if job.pooling else ():
        if isinstance(each, str):
            size += len(each.encode())
        else:
            ids += len(each)
    return ids + size // _BYTES_PER_TOKEN
