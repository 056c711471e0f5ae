"""The seam between a worker and the library that runs its model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from contract.asked import MediaKind
from contract.media import media_of, takes_none
from contract.messages import ErrorCode, Job, Sampling
from workers.outbox import Outbox

_OF_SOME_ENGINES: Final[Mapping[str, Any]] = {
    "logit_bias": None,
    "stop_token_ids": (),
    "bad_words": (),
    "allowed_token_ids": (),
    "include_stop_str_in_output": False,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "vllm_xargs": None,
    "names_tokens_by_id": False,
}
#: The abilities of an engine that can do all that some cannot.
ALL_SAMPLING: Final = frozenset(_OF_SOME_ENGINES)


class EngineReport(NamedTuple):
    """An engine's description of itself once it is ready."""

    version: str
    #: Jobs that it can run at once; the worker never submits more.
    slots: int
    #: Prompt and answer together, in tokens.
    max_model_len: int
    #: It computes whole answers and hands them out in pieces.
    pseudo_streaming: bool = False
    #: It runs on this host, so that ending its worker ends it, too. A server elsewhere is not
    #: watched: to ask it may cost money, and another worker would meet the same server. What
    #: it does not answer ends by its own timeouts.
    is_local: bool = True
    #: A remark for its operator on how it runs; empty if all is as usual.
    remark: str = ""
    #: Media that a job may bring along.
    takes: tuple[MediaKind, ...] = ()
    #: It writes down speech.
    transcribes: bool = False


class CannotServe(ValueError):
    """The model cannot be served as it is configured: the same start would end the same way."""


class JobRejected(Exception):
    """This job cannot be run, though the engine is well."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_sampling(asked: Sampling, takes: frozenset[str], engine: str) -> None:
    """Raises `JobRejected` for what a job asks for and its engine cannot do, given what it takes
    of that which not every engine can do."""
    for name, usual in _OF_SOME_ENGINES.items():
        if name not in takes and getattr(asked, name) != usual:
            message = f"`{name}`: {engine} cannot do that"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)


def check_prompt(job: Job, engine: str) -> None:
    """Raises `JobRejected` for what few engines can do with a prompt."""
    if job.suffix is not None:
        raise JobRejected(ErrorCode.INVALID_REQUEST, f"`suffix`: {engine} cannot fill a gap")
    if job.report is not None and not job.report.only:
        fields = "`echo`, `prompt_logprobs`, `return_token_ids`, `continuous_usage_stats`"
        message = f"{engine} tells nothing of the prompt ({fields})"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)


def check_media(job: Job, takes: Collection[MediaKind]) -> None:
    """Raises `JobRejected` for images and the like that a model does not take."""
    for each in media_of(job):
        if each.kind not in takes:
            raise JobRejected(ErrorCode.INVALID_REQUEST, takes_none(job.model, each.kind))


def check_speech(job: Job, *, transcribes: bool) -> None:
    """Raises `JobRejected` for speech that a model cannot write down."""
    if job.speech is not None and not transcribes:
        message = (
            f"model `{job.model}` writes down no speech; vLLM does, with models such as Whisper "
            "(docs/engines.md)"
        )
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)


class Engine(Protocol):
    """Four methods. All events of a job are pushed into the outbox, as it happens, from the
    event loop's thread: deltas, then exactly one `done` or `failed`.

    `continues` says that `submit` honours `job.emitted` (see workers/answers/continuation.py): the
    answer goes on after those tokens, and they count against `max_tokens`.
    """

    continues: bool

    async def start(self, outbox: Outbox) -> EngineReport:
        """Load the model; afterwards `submit` must work. Called once. May block the loop.
        `stop` is called also if this raises: `CannotServe` where nothing but another
        configuration helps, and whatever the library does."""

    async def submit(self, job: Job) -> None:
        """Take a job and return soon; it never waits for the answer. Raises `JobRejected`."""

    async def cancel(self, job_id: str) -> None:
        """Free what the job holds. A job that has ended, or is unknown, is no error.
        The engine may still push a last event for it, or none."""

    async def stop(self) -> None:
        """Release everything, also child processes. Safe to call twice."""


@runtime_checkable
class WaitsForServer(Protocol):
    """An engine whose `start` waits for a server that others run."""

    @property
    def obstacle(self) -> str:
        """Why it still waits, for the operator: it may name what clients are not to know. Empty if
        it does not. Any thread may ask."""


@runtime_checkable
class ReadsAhead(Protocol):
    """An engine that reads prompts sooner if it reads several at once."""

    def read_ahead(self, jobs: Sequence[Job]) -> None:
        """These jobs are submitted next, unless they end before. Raises nothing for any of them."""


@runtime_checkable
class SupportsSleep(Protocol):
    """An engine that can do without its GPU memory for a while. Neither is called while a job
    runs, and `submit` never between the two."""

    async def sleep(self) -> None:
        """Hand the GPU's memory back, but for what a process cannot do without."""

    async def wake(self) -> None:
        """Take it again; afterwards `submit` must work as before."""
