"""The OpenAI API as its client speaks it: requests, the chunks of a stream, and errors."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from contract.messages import ErrorCode, FinishReason, Guided, Job, Sampling, TokenLogprob
from workers.engine import JobRejected
from workers.engines.prompts import choices_of
from workers.engines.upstream import Server

_LARGEST_LINE: Final = 16_777_216
_LONGEST_MESSAGE: Final = 1_000
_RETRYABLE: Final = (408, 409, 425, 429)
_TOO_LONG: Final = re.compile(
    r"context.?(length|size|window)|prompt is too long|(prompt|input) (length|tokens).*exceed"
    r"|max_(seq|input)_len",
    re.IGNORECASE,
)
_FINISH: Final[dict[str, FinishReason]] = {"length": "length", "max_tokens": "length"}
#: The server gave up on the answer; nobody here asked it to.
_BROKEN_OFF: Final = ("abort", "cancelled", "error")
_SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)


class UpstreamFailed(Exception):
    """A request that the server behind a model did not answer as it should."""

    retryable = False

    def __init__(self, message: str, code: ErrorCode = ErrorCode.UPSTREAM_FAILED) -> None:
        super().__init__(message)
        self.code = code


class UpstreamBusy(UpstreamFailed):
    """The same request may succeed later."""

    retryable = True


class StreamBroken(UpstreamBusy):
    """An answer that stopped before its end."""

    def __init__(self, said: str) -> None:
        super().__init__(f"the stream of the server behind this model broke: {said}")


def request_path(job: Job) -> str:
    return "/completions" if job.messages is None else "/chat/completions"


def request_body(job: Job, server: Server, max_tokens: int | None) -> dict[str, Any]:
    """What asks for a job's answer, apart from the model's name there. Raises `JobRejected`."""
    asked = job.sampling
    given = {name: getattr(asked, name) for name in _SAMPLING}
    body = {name: value for name, value in given.items() if value is not None}
    body |= {"stream": True, **_prompt(job), **_options(asked, max_tokens)}
    if asked.logprobs is not None:
        body |= _logprobs_wanted(asked.logprobs, job.messages is not None)
    if asked.guided is not None:
        body |= _guided(asked.guided, server)
    if server.kind == "llamacpp" and "repetition_penalty" in body:
        body["repeat_penalty"] = body.pop("repetition_penalty")
    return body


def _prompt(job: Job) -> dict[str, Any]:
    if job.messages is None:
        return {"prompt": job.prompt}
    return {"messages": job.messages}


def _options(asked: Sampling, max_tokens: int | None) -> dict[str, Any]:
    """Only what differs from every server's default: strict ones refuse names they lack."""
    options: dict[str, tuple[Any, bool]] = {
        "max_tokens": (max_tokens, max_tokens is not None),
        "min_tokens": (asked.min_tokens, asked.min_tokens > 0),
        "stop": (asked.stop, bool(asked.stop)),
        "ignore_eos": (True, asked.ignore_eos),
        "n": (asked.n, asked.n > 1),
    }
    return {name: value for name, (value, wanted) in options.items() if wanted}


def _logprobs_wanted(alternatives: int, chat: bool) -> dict[str, Any]:
    return {"logprobs": True, "top_logprobs": alternatives} if chat else {"logprobs": alternatives}


def _guided(guided: Guided, server: Server) -> dict[str, Any]:
    """The constraint in the words of the server: beyond JSON, each kind has its own."""
    match guided.kind:
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json":
            return {"response_format": _schema_format(json.loads(guided.value), server)}
        case _ if server.kind == "vllm":
            return _vllm_guided(guided, server)
        case "choice":
            return _grammar("grammar", _grammar_of(choices_of(guided.value)), server)
        case _:
            return _grammar(guided.kind, guided.value, server)


def _schema_format(schema: Any, server: Server) -> dict[str, Any]:
    if server.kind == "tensorrt_llm":
        return {"type": "json", "schema": schema}
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _vllm_guided(guided: Guided, server: Server) -> dict[str, Any]:
    value: Any = choices_of(guided.value) if guided.kind == "choice" else guided.value
    number = re.match(r"(\d+)\.(\d+)", server.version)
    if number is not None and (int(number[1]), int(number[2])) < (0, 11):
        return {f"guided_{guided.kind}": value}
    return {"structured_outputs": {guided.kind: value}}


def _grammar(kind: str, value: str, server: Server) -> dict[str, Any]:
    match server.kind, kind:
        case "tensorrt_llm", "regex":
            return {"response_format": {"type": "regex", "regex": value}}
        case "tensorrt_llm", "grammar":
            return {"response_format": {"type": "ebnf", "ebnf": value}}
        case "sglang", "regex":
            return {"regex": value}
        case "sglang", "grammar":
            return {"ebnf": value}
        case "llamacpp", "grammar":
            return {"grammar": value}
    name = server.kind or "of an unknown kind"
    message = f"the server behind this model ({name}) takes no {kind} as a constraint"
    raise JobRejected(ErrorCode.INVALID_REQUEST, message)


def _grammar_of(choices: list[str]) -> str:
    return "root ::= " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)


class _Text(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Alternative(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Alternative] = []


class _Logprobs(msgspec.Struct):
    """`content` in chats, the other three in completions."""

    content: list[_Token] | None = None
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None

    def tokens_of(self) -> tuple[TokenLogprob, ...]:
        if self.content is not None:
            return tuple(
                TokenLogprob(
                    token.token,
                    token.logprob,
                    tuple((other.token, other.logprob) for other in token.top_logprobs),
                )
                for token in self.content
            )
        others = self.top_logprobs or [None] * len(self.tokens)
        return tuple(
            TokenLogprob(token, logprob or 0.0, tuple((beside or {}).items()))
            for token, logprob, beside in zip(
                self.tokens, self.token_logprobs, others, strict=False
            )
        )


class Choice(msgspec.Struct):
    """New text of one choice."""

    index: int = 0
    text: str | None = None
    delta: _Text | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None

    @property
    def new_text(self) -> str:
        return self.text or (self.delta and self.delta.content) or ""

    @property
    def thinks(self) -> bool:
        """The model reasons, which the server keeps apart from the answer."""
        return bool(self.delta and (self.delta.reasoning_content or self.delta.reasoning))

    def token_logprobs(self) -> tuple[TokenLogprob, ...] | None:
        return (self.logprobs.tokens_of() or None) if self.logprobs else None

    def reason(self) -> FinishReason | None:
        """Why the choice ended, or None if it goes on. Raises `StreamBroken`."""
        if self.finish_reason is None:
            return None
        if self.finish_reason in _BROKEN_OFF:
            raise StreamBroken(f"finish reason `{self.finish_reason}`")
        return _FINISH.get(self.finish_reason, "stop")


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts of a whole answer."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details else 0


class Chunk(msgspec.Struct):
    """One event of a stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


_decoder: Final = msgspec.json.Decoder(Chunk)


def read_chunk(event: bytes) -> Chunk:
    """Raises `UpstreamFailed`, also for an error that the server reports within the stream."""
    try:
        chunk = _decoder.decode(event)
    except msgspec.MsgspecError as error:
        message = f"the server behind this model does not speak OpenAI's API: {error}"
        raise UpstreamFailed(message) from error
    if chunk.error:
        status = chunk.error.get("code") if isinstance(chunk.error, dict) else None
        raise refusal(status if isinstance(status, int) else 500, event)
    return chunk


class EventReader:
    """Cuts a byte stream into the data of its server-sent events: a line each, as all servers
    of this API write them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now. Raises `UpstreamFailed`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LARGEST_LINE:
            raise UpstreamFailed("the server behind this model sends a line without an end")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def refusal(status: int, body: bytes, *, adapter: bool = False) -> UpstreamFailed:
    """The error that an HTTP status and its body mean for a job."""
    message = _message(body) or f"HTTP {status}"
    if status in (401, 403):
        return UpstreamFailed(f"the server behind this model refused ew's key (HTTP {status})")
    if status >= 500 or status in _RETRYABLE:
        return UpstreamBusy(f"the server behind this model failed: {message}")
    if status < 400 or (status == 404 and not adapter):
        return UpstreamFailed(f"the server behind this model failed (HTTP {status}): {message}")
    if _TOO_LONG.search(message):
        return UpstreamFailed(message, ErrorCode.PROMPT_TOO_LONG)
    return UpstreamFailed(message, ErrorCode.INVALID_REQUEST)


def _message(body: bytes) -> str:
    """What an error says, in any of the forms that servers use."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        said = body.decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and name in said:
            said = said[name]
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return text.strip()[:_LONGEST_MESSAGE]
