"""The model that does what a request asks of another: it has a share, or falls in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from contract.bus.turns import prompt_tokens
from contract.config import FallbackConfig, SplitConfig
from contract.messages import Job
from gateway.http.errors import ApiError
from gateway.jobs.availability import ModelAvailability
from gateway.jobs.models import Models

#: `split`: a share of the requests. The others are why a fallback has it: its model is not served,
#: too many wait for it, or the request itself has waited too long. `before`: the request came
#: before, and went there.
RouteReason = Literal["split", "unavailable", "queue", "wait", "before"]
#: The beginning of a conversation by which it is known.
_BEGINNING: Final = 1_024
_HASHES: Final = 2**64


class Route(NamedTuple):
    """A model that may do what another is asked for, and why."""

    model: str
    reason: RouteReason


class Routing:
    """Chooses, by what this process knows of the models: about a second old, with its own
    requests since."""

    def __init__(self, models: Models) -> None:
        self._models = models
        #: By model: what was known of it last, and the requests that went to it since.
        self._sent: dict[str, tuple[ModelAvailability, int]] = {}

    def choose(
        self, job: Job, asked: str, check: Callable[[str], list[Job]]
    ) -> tuple[list[Job], RouteReason | None]:
        """Return the jobs of a request, of which `job` is the first, as `check` makes them for the
        model that is to do them; and why that is not the one `asked` for, if it is not. Another
        has them only if it can take them all. Raises `ApiError`, as `check` does."""
        for route in self._routes(job, asked):
            try:
                checked = check(route.model)
            except ApiError:
                continue
            if all(map(self.can_take, checked)):
                self._note(route.model)
                return [replace(each, moved_from=asked) for each in checked], route.reason
        self._note(asked)
        return check(asked), None

    def fallbacks(self, asked: str, reason: RouteReason) -> Iterator[Route]:
        """Yield the models that fall in for one now, in their order."""
        fallback = self._models.configured[asked].fallback
        for target in fallback.to if fallback else ():
            if self.is_available(target) and not self._is_crowded(target, fallback):
                yield Route(target, reason)

    def is_available(self, model: str) -> bool:
        """Return whether a model does jobs, or will as soon as it has been loaded."""
        return self._models.status(model).is_available and not self._models.ended(model)

    def _routes(self, job: Job, asked: str) -> Iterator[Route]:
        config = self._models.configured[asked]
        fallback = config.fallback
        share = share_of(job, config.split) if config.split else None
        if share and self.is_available(share) and not self._is_crowded(share, fallback):
            yield Route(share, "split")
        if fallback is not None:
            if not self.is_available(asked):
                yield from self.fallbacks(asked, "unavailable")
            elif self._is_crowded(asked, fallback):
                yield from self.fallbacks(asked, "queue")

    def _is_crowded(self, model: str, fallback: FallbackConfig | None) -> bool:
        if fallback is None or fallback.after_waiting is None:
            return False
        status, sent = self._since_look(model)
        free = sum(max(0, worker.slots - worker.running) for worker in status.workers)
        return status.waiting + max(0, sent - free) >= fallback.after_waiting

    def _since_look(self, model: str) -> tuple[ModelAvailability, int]:
        status = self._models.status(model)
        known, sent = self._sent.get(model, (status, 0))
        return (status, sent) if known is status else (status, 0)

    def _note(self, model: str) -> None:
        """Count a request that goes to a model."""
        status, sent = self._since_look(model)
        self._sent[model] = status, sent + 1

    def can_take(self, job: Job) -> bool:
        """Return whether the tools, and prompt and answer, are for this model, as far as is known
        here: the length of a prompt is estimated."""
        if job.tools is not None and self._models.configured[job.model].tool_parser == "none":
            return False
        longest = self._models.status(job.model).max_model_len
        if longest is None or job.pooling is not None:
            return True
        return prompt_tokens(job) + (job.sampling.max_tokens or 0) <= longest


def share_of(job: Job, split: SplitConfig) -> str | None:
    """Return the model that has the share to which a job belongs; None if it is the rest. As a
    share grows, what it had stays with it."""
    point, below = point_of(_sticky(job, split)) * 100, 0.0
    for model, percent in split.to.items():
        below += percent
        if point < below:
            return model
    return None


def _sticky(job: Job, split: SplitConfig) -> str:
    """Return the words that are the same for all that stays together."""
    if split.by == "request":
        return job.id
    return job.key_id if split.by == "key" else f"{job.key_id} {_beginning(job)}"


def _beginning(job: Job) -> str:
    """Return the beginning of a conversation, which is the same for each of its requests."""
    if job.messages is None:
        return str(job.prompt or job.prompt_ids or job.id)[:_BEGINNING]
    first = next((k for k, turn in enumerate(job.messages) if turn.role == "user"), 0)
    return "\0".join(turn.content[:_BEGINNING] for turn in job.messages[: first + 1])


def point_of(text: str) -> float:
    """Return a number from 0 up to 1 that a text always has."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _HASHES
