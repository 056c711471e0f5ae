"""How many tokens a prompt has, told in the words of an API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from msgspec.structs import replace

from contract.asked import PromptReport
from contract.messages import Done, Job, Sampling
from gateway.api.vllm.tokenizing import PromptChoice
from gateway.http.error_answers import ErrorDialect
from gateway.streams.dialects import Timings


def counting(job: Job) -> Job:
    """Return a job that tells of the same prompt, and generates nothing."""
    return replace(job, sampling=Sampling(), report=PromptReport(only=True))


class PromptCount:
    """One JSON object: what `tell` makes of the count."""

    def __init__(self, errors: ErrorDialect, tell: Callable[[int], dict[str, Any]]) -> None:
        self.errors = errors
        self._tell = tell

    def new_choice(self) -> PromptChoice:
        return PromptChoice()

    def body(self, choices: list[PromptChoice], done: Done, timings: Timings) -> bytes:
        return orjson.dumps(self._tell(len(choices[0].prompt.ids)))
