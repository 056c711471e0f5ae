"""The body of OpenAI's text completions, with vLLM's extra fields."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Final

from msgspec.structs import replace
from pydantic import Field

from contract.messages import Job, Sampling
from gateway.api.fields import Unsupported
from gateway.api.openai.detail import Detail
from gateway.api.openai.schemas import GenerationRequest
from gateway.api.openai.values import MOST_PROMPTS, Prompts
from gateway.http.errors import invalid

#: The default of OpenAI's own server for `max_tokens` of a text completion.
_COMPLETION_TOKENS: Final = 16


class CompletionRequest(GenerationRequest):
    """Of one prompt or several; the choices of the first come first."""

    prompt: Prompts = Field(description="Taken as it is, without a chat template.")
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="0 with `echo` alone: the prompt, and nothing else."
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = Field(
        None, description="So many choices, of which the `n` most probable are the answer."
    )
    echo: bool | None = Field(None, description="The prompt comes before the answer.")
    suffix: str | None = Field(None, description="What follows, for models that fill gaps.")
    prompt_embeds: Unsupported = None
    add_special_tokens: bool | None = None

    @property
    def told_of_prompt(self) -> int | None:
        """Of an echoed prompt, as many as of the answer."""
        asked = super().told_of_prompt
        return self.logprobs if asked is None and self.echo else asked

    @property
    def choices(self) -> int:
        """How many there are of each prompt before the best are taken."""
        return self.best_of or self.n or 1

    @cached_property
    def detail(self) -> Detail:
        if not self.echo:
            return super().detail
        return super().detail._replace(echo=True, generated=self.max_tokens != 0)

    @property
    def is_plain(self) -> bool:
        """Whether an answer is its text, and log probabilities, and nothing else."""
        return self.detail.is_plain and self.choices == (self.n or 1)

    def job(self, job_id: str, key_id: str) -> Job:
        return self.jobs(job_id, key_id)[0]

    def jobs(self, job_id: str, key_id: str) -> list[Job]:
        """One for each prompt. Raises `ApiError`."""
        self._check()
        rest = {
            **self.of_the_job(key_id),
            "suffix": self.suffix,
            "add_special_tokens": self.add_special_tokens,
        }
        sampling = self._sampling()
        jobs = []
        for number, prompt in enumerate(self.prompt):
            given: dict[str, Any]
            given = {"prompt": prompt} if isinstance(prompt, str) else {"prompt_ids": tuple(prompt)}
            name = f"{job_id}-{number}" if number else job_id
            jobs.append(Job(name, self.model, sampling, **given, **rest))
        return jobs

    def _sampling(self) -> Sampling:
        most = _COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens
        logprobs = self.logprobs
        if self.choices > (self.n or 1):
            logprobs = logprobs or 0
        # No engine generates nothing.
        return replace(self.sampling(most or 1, logprobs), n=self.choices)

    def _check(self) -> None:
        """Raises `ApiError`."""
        self.check_stream()
        if self.max_tokens == 0 and not self.echo:
            raise invalid("max_tokens", "0 needs `echo`")
        if self.choices < (self.n or 1):
            raise invalid("best_of", "fewer than `n`")
        if self.stream and self.choices > (self.n or 1):
            raise invalid("best_of", "more than `n` cannot be streamed")
        if self.choices * len(self.prompt) > MOST_PROMPTS:
            raise invalid("prompt", f"more than {MOST_PROMPTS} choices in all")
        if self.suffix is not None:
            self._check_suffix()

    def _check_suffix(self) -> None:
        """Raises `ApiError`, as vLLM does."""
        if self.echo:
            raise invalid("suffix", "excludes `echo`")
        if self.truncate_prompt_tokens is not None:
            raise invalid("suffix", "excludes `truncate_prompt_tokens`")
        if not all(isinstance(each, str) for each in self.prompt):
            raise invalid("suffix", "needs a `prompt` of text")
