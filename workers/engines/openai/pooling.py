"""Vectors, classes and scores, as they are asked of a server of the OpenAI API and come back from
it. Only vLLM's server is asked for more than embeddings; of others, scores are made here of those.

| task | of vLLM | of other servers |
|---|---|---|
| `embed` | `/v1/embeddings` | the same |
| `score` | `/v1/score` | `/v1/embeddings`, and the cosine |
| `classify` | `/classify` | - |
| others | `/pooling` | - |
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import msgspec

from contract.asked import Pooling
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.openai.errors import UpstreamFailed
from workers.engines.openai.tools import messages_asked
from workers.engines.openai.upstream import Server
from workers.engines.shared.deltas import Pooled
from workers.engines.shared.scores import cosines, packed

VLLM: Final = "vllm"
#: Fields that only vLLM's server takes beside the inputs: by field of a `Pooling`, its name there.
_OF_VLLM: Final = {
    "activation": "use_activation",
    "query_tokens": "max_tokens_per_query",
    "document_tokens": "max_tokens_per_doc",
}
#: The routes that are beside vLLM's `/v1`, and not below it (0.32).
BESIDE_API: Final = ("/classify", "/pooling")
_SIDES: Final = {"first": "right", "last": "left"}


class _Part(msgspec.Struct):
    """Of one input: what it is called differs from route to route."""

    index: int
    embedding: list[float] | None = None
    score: float | None = None
    probs: list[float] | None = None
    label: str | None = None
    #: Numbers, or lists of them.
    data: list[Any] | None = None

    def pooled(self) -> Pooled:
        """Raises `ValueError` or `TypeError` if there is nothing that can be read."""
        numbers = self.embedding or self.probs or self.data
        if self.score is not None:
            numbers = [self.score]
        if not numbers:
            raise ValueError("an input without numbers")
        rows: Any = numbers
        if isinstance(rows[0], list):
            if len({len(row) for row in rows}) > 1:
                raise ValueError("rows of several lengths")
            return Pooled(packed(list(chain(*rows))), rows=len(rows))
        return Pooled(packed(rows), label=self.label or "")


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Part]
    usage: _Usage = msgspec.field(default_factory=_Usage)


def pooling_path(asked: Pooling, server: Server) -> str:
    """Return where a pooling is asked for, below the API's address."""
    if server.kind != VLLM or asked.task == "embed":
        return "/embeddings"
    return {"score": "/score", "classify": "/classify"}.get(asked.task, "/pooling")


def pooling_asked(job: Job, asked: Pooling, server: Server) -> dict[str, Any]:
    """Raises `JobRejected` for what a server cannot be asked."""
    if asked.input_type:
        raise _refused("`input_type`: the server behind this model cannot be told of it")
    body = _beside(job, asked)
    if server.kind != VLLM:
        if asked.task not in ("embed", "score"):
            raise _refused("the server behind this model makes embeddings, and no classes")
        for name in body:
            raise _refused(f"`{name}`: the server behind this model cannot do that")
    elif asked.task == "score":
        sides = (asked.inputs[: asked.queries], asked.inputs[asked.queries :])
        return body | {"queries": sides[0], "documents": sides[1]}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    if asked.task.startswith("token"):
        body["task"] = asked.task
    return body | _inputs(job, asked) | {"encoding_format": "float"}


def _inputs(job: Job, asked: Pooling) -> dict[str, Any]:
    if job.messages is not None:
        return {"messages": messages_asked(job.messages)}
    return {"input": asked.inputs}


def _refused(message: str) -> JobRejected:
    return JobRejected(ErrorCode.INVALID_REQUEST, message)


def _beside(job: Job, asked: Pooling) -> dict[str, Any]:
    """Return what only vLLM's server takes."""
    body: dict[str, Any] = {
        name: getattr(asked, field)
        for field, name in _OF_VLLM.items()
        if getattr(asked, field) not in (None, 0)
    }
    if asked.activation is False:
        body["use_activation"] = False
    if job.truncate_prompt_tokens is not None:
        body["truncate_prompt_tokens"] = job.truncate_prompt_tokens
        if asked.keeps:
            body["truncation_side"] = _SIDES[asked.keeps]
    if job.add_special_tokens is not None:
        body["add_special_tokens"] = job.add_special_tokens
    if job.template is not None and job.template.arguments:
        body["chat_template_kwargs"] = msgspec.json.decode(job.template.arguments)
    return body


def read_pooled(body: bytes, asked: Pooling, server: Server) -> tuple[list[Pooled], int]:
    """Return what came in the order of the inputs, and the tokens that were read. Raises
    `UpstreamFailed`."""
    by_server = asked.task == "score" and server.kind == VLLM
    wanted = len(asked.inputs) - asked.queries if by_server else len(asked.inputs) or 1
    try:
        read = msgspec.json.decode(body, type=_Answer)
        ordered = sorted(read.data, key=lambda each: each.index)
        pooled = [each.pooled() for each in ordered]
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from error
    if [each.index for each in ordered] != list(range(wanted)):
        raise _unreadable(f"{len(read.data)} of {wanted}")
    if asked.task == "score" and not by_server:
        scores = cosines([each.vector for each in pooled], asked)
        pooled = [Pooled(score) for score in scores]
    return pooled, read.usage.prompt_tokens


def _unreadable(note: str) -> UpstreamFailed:
    message = "the server behind this model sent no vectors or scores that can be read"
    return UpstreamFailed(message, note=note)
