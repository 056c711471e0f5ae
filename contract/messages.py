"""The messages between processes (`contract/wire.py` encodes them): jobs, events, heartbeats."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from contract.asked import (
    Guided,
    Media,
    MediaKind,
    Pooling,
    PromptReport,
    Speech,
    Template,
    ToolCall,
    Tools,
    TraceContext,
    Turn,
)

WIRE_VERSION = 1
#: The errors of decoding. Text that is not UTF-8 is a `UnicodeDecodeError`, which is no
#: `MsgspecError` (msgspec 0.22).
UNREADABLE: Final = (msgspec.MsgspecError, ValueError)

#: `length`: a bound cut the answer short. `content_filter`: the server behind the model did.
#: `tool_calls`: the model waits for what the tools return that it has called.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]
Role = Literal["system", "user", "assistant", "tool", "function", "developer"]


class ErrorCode(str, Enum):
    """Why a job failed, as a client reads it. `gateway/http/errors.py` has the HTTP statuses."""

    INVALID_REQUEST = "invalid_request"
    PROMPT_TOO_LONG = "prompt_too_long"
    ENGINE_FAILED = "engine_failed"
    ENGINE_LOST = "engine_lost"
    UPSTREAM_FAILED = "upstream_failed"
    POISON = "poison"
    EXPIRED = "queue_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105
    TOKEN_GAP_TIMEOUT = "token_gap_timeout"  # noqa: S105
    TOTAL_TIMEOUT = "total_timeout"
    LOST = "lost"
    SLOW_CLIENT = "slow_client"
    DRAINING = "draining"
    CANCELLED = "cancelled"


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation: text, with images and the like in it; calls of tools, or what a
    tool returned for a call. A role that is no `Role` is for the chat template to know."""

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
    media: tuple[Media, ...] = ()


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. `None` means the model's own default (its generation config).

    `max_tokens=None` means as many as the model's context leaves room for.
    `logprobs` is the number of alternatives to report beside the chosen token."""

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    logprobs: int | None = None
    guided: Guided | None = None
    #: Not every engine supports the fields below (`workers.engine.check_sampling`).
    logit_bias: dict[int, float] | None = None
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    #: For extensions that an operator has added to vLLM.
    vllm_xargs: dict[str, Any] | None = None
    #: In log probabilities, tokens are called `token_id:N`.
    names_tokens_by_id: bool = False


class Job(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="v", tag=WIRE_VERSION):
    """One generation asked of a model: a `prompt` taken as it is, `prompt_ids` (its tokens), or
    `messages` for the model's chat template; or else a `pooling`, with or without messages. Of a
    longer prompt the last `truncate_prompt_tokens` are read (-1: all), or the first if it
    `keeps_beginning`. `moved_from` was asked for, if another does it. The version is the tag."""

    id: str
    model: str
    sampling: Sampling
    prompt: str | None = None
    messages: tuple[ChatMessage, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    pooling: Pooling | None = msgspec.field(default=None, name="embedding")
    truncate_prompt_tokens: int | None = None
    keeps_beginning: bool = False
    #: The text after the answer: the model is to fill the gap before it.
    suffix: str | None = None
    #: Whether the tokenizer adds its own tokens, as to a `prompt`.
    add_special_tokens: bool | None = None
    report: PromptReport | None = None
    template: Template | None = None
    tools: Tools | None = None
    adapter: str | None = None
    turn: Turn = Turn()
    key_id: str = ""
    moved_from: str = ""
    #: Keeps the prompt apart in the engine's cache from those of the same key with another salt.
    cache_salt: str = ""
    #: The answer begins with a `PromptDelta` of the prompt's length, where the engine knows it.
    counts_prompt: bool = False
    #: It goes on when its client leaves, or its gateway dies: the answer may be asked for again.
    resumable: bool = False
    trace: TraceContext | None = None
    speech: Speech | None = None
    #: Token ids and transcript (`workers/answers/`) that earlier attempts have already sent.
    #: Set by the worker that takes a job over, never by a client.
    emitted: tuple[int, ...] = ()
    sent: str = ""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """The log probability (natural) of a token, and of the alternatives beside it."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


class Started(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """An attempt begins. In the reply stream it fences: what an earlier attempt publishes
    after it does not count. It takes no sequence number; the one in its envelope says nothing.
    Of a job with a `trace`, it tells the worker, and how long ago that had claimed the job."""

    worker: str = ""
    claimed_us_ago: int = 0


class Status(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """The job waits: for a place in the queue, or for its model to load."""

    stage: str
    position: int | None = None
    eta_s: float | None = None


class Delta(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="d"):
    """New text of choice `index`. `tokens` packs the new token ids, 4 bytes each, native order.
    The garbage collector need not know of it: nothing in it can lead back to it."""

    text: str
    tokens: bytes
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] | None = None


class ReasoningDelta(Delta, frozen=True, array_like=True, tag="r"):
    """New text of what the model thinks before it answers, which is no part of the answer."""


class ToolCallDelta(Delta, frozen=True, array_like=True, tag="t"):
    """A piece of the answer's `call`-th tool call, counted from 0: its first has the call's id and
    the tool's name; `text` is a piece of its arguments, which are JSON."""

    call: int = 0
    id: str = ""
    name: str = ""


class VectorDelta(Delta, frozen=True, array_like=True, tag="v"):
    """The vector of input `number`: 4 bytes for each number, a float in little-endian order. It may
    come again, the same. A score is a vector of one. Vectors of tokens come in pieces of `rows`,
    from token `row` on; `rows` is 0 for one of the whole input, of which `label` is the class."""

    number: int = 0
    vector: bytes = b""
    row: int = 0
    rows: int = 0
    label: str = ""


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """A token at a place of the prompt, and how probable it was there (natural logarithm; its rank
    counts from 1). Neither is known of the first place."""

    id: int
    text: str
    logprob: float | None = None
    rank: int | None = None


class PromptDelta(Delta, frozen=True, array_like=True, tag="p"):
    """Some tokens of the prompt as the model read it, packed in `prompt` as `tokens` are; the first
    of these deltas has the prompt's whole text. `names` and `places` have an item for each token if
    they were asked for: a place is the token there, and others that were likely."""

    prompt: bytes = b""
    prompt_text: str = ""
    names: tuple[str, ...] = ()
    places: tuple[tuple[PromptToken, ...], ...] = ()
    #: Of one that tells nothing else: how many tokens the prompt has.
    count: int = 0


class EngineTimes(msgspec.Struct, frozen=True, array_like=True):
    """The engine's work in an attempt, in microseconds since its `Started` was pushed: the job was
    submitted, its first piece came (None: none did), the engine's last word. Clocks of two hosts
    are never compared."""

    submitted_us: int
    first_us: int | None
    ended_us: int


class Done(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The answer is complete; `finish_reasons` has one item per choice."""

    finish_reasons: tuple[FinishReason, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    #: The engine could not stream: the text came in pieces after it was complete.
    pseudo_streamed: bool = False
    #: How many of `completion_tokens` were reasoning.
    reasoning_tokens: int = 0
    #: By choice, the stop string that ended it; empty for a choice that none did. There are none at
    #: all where the engine does not say.
    stop_strings: tuple[str, ...] = ()
    #: Of a job with a `trace`.
    times: EngineTimes | None = None


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """The job ended without an answer. `retryable`: the same request may succeed later."""

    code: ErrorCode
    message: str
    retryable: bool = False
    #: Of a job with a `trace`.
    times: EngineTimes | None = None


_AnyDelta: TypeAlias = Delta | ReasoningDelta | ToolCallDelta | VectorDelta | PromptDelta
Event: TypeAlias = Started | Status | _AnyDelta | Done | Failed


class Envelope(NamedTuple):
    """One event on its way to a gateway: of which job and attempt, and its place in the answer.

    `seq` counts a job's Deltas and its terminal event from 0, through all attempts.
    """

    job_id: str
    attempt: int
    seq: int
    event: Event


class State(str, Enum):
    """The state of a worker, a model or any other process."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    #: Its engine has handed the GPU's memory back, and takes it again when a request comes.
    SLEEPING = "sleeping"
    STOPPING = "stopping"
    FAILED = "failed"


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker's sign of life: counters from its start, gauges, and a `remark` for its operator."""

    name: str
    model: str
    engine: str
    host: str
    pid: int
    state: State
    stage: str = ""
    version: str = ""
    env: str = ""
    slots: int = 0
    running: int = 0
    max_model_len: int = 0
    started_unix_s: float = 0.0
    ready_after_s: float | None = None
    jobs_total: int = 0
    prompt_tokens_total: int = 0
    generated_tokens_total: int = 0
    fenced_total: int = 0
    taken_over_total: int = 0
    engine_waiting: int = 0
    kv_cache_usage: float | None = None
    prefix_cache_queries_total: int = 0
    prefix_cache_hits_total: int = 0
    preemptions_total: int | None = None
    pseudo_streaming: bool = False
    #: Of its model, while the engine downloads it; 0 if it does not.
    downloaded_bytes: int = 0
    remark: str = ""
    takes: tuple[MediaKind, ...] = ()
    adapters_in_use: tuple[str, ...] = ()
