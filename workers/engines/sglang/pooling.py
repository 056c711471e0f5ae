"""Embeddings by SGLang, and scores by how like each other they are: each input is a request of its
own, and the answer comes when all have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import msgspec

from contract.asked import Pooling
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.prompts import Prompts
from workers.engines.shared.deltas import Pooled, pooled_deltas
from workers.engines.shared.scores import cosines, packed
from workers.outbox import Outbox

_TASKS: Final = ("embed", "any", "score")
#: Fields of a `Pooling` that mean something to other engines alone.
_NOT_TAKEN: Final = ("activation", "query_tokens", "document_tokens", "input_type")


class SglangEmbeddings:
    """The answer to one job, as far as it has come."""

    def __init__(self, outbox: Outbox, job: Job, asked: Pooling, parts: int) -> None:
        self._outbox = outbox
        self._job_id = job.id
        self._asked = asked
        self._parts: list[bytes | None] = [None] * parts
        self._prompt_tokens = 0

    @property
    def is_complete(self) -> bool:
        return all(part is not None for part in self._parts)

    def take(self, number: int, output: dict[str, Any]) -> None:
        """Take the vector of an input; with the last one, send them. Raises `ValueError` if they
        are too much for one answer."""
        self._parts[number] = packed(output["embedding"])
        self._prompt_tokens += output["meta_info"]["prompt_tokens"]
        if not self.is_complete:
            return
        vectors = [part for part in self._parts if part is not None]
        if self._asked.task == "score":
            vectors = cosines(vectors, self._asked)
        try:
            said = pooled_deltas([Pooled(vector) for vector in vectors])
        except JobRejected as error:
            raise ValueError(str(error)) from error
        self._outbox.say_first(self._job_id, said)
        self._outbox.done(self._job_id, ("stop",), self._prompt_tokens)


async def inputs_of(job: Job, asked: Pooling, prompts: Prompts) -> list[list[int]]:
    """Return the tokens of each input. Raises `JobRejected`, also for what SGLang cannot do."""
    if asked.task not in _TASKS:
        _refuse(f"SGLang's models of embeddings are not asked for `{asked.task}` by ew")
    for name in _NOT_TAKEN:
        if getattr(asked, name) != getattr(Pooling(()), name):
            _refuse(f"`{name}`: the engine cuda-sglang cannot do that")
    alone = msgspec.structs.replace(job, pooling=None, keeps_beginning=asked.keeps == "first")
    if not asked.inputs:
        return [await prompts.token_ids(alone)]
    each = [
        msgspec.structs.replace(alone, prompt=given)
        if isinstance(given, str)
        else msgspec.structs.replace(alone, prompt_ids=given)
        for given in asked.inputs
    ]
    return [await prompts.token_ids(one) for one in each]


def encode(
    manager: Any, inputs: list[int], asked: Pooling, adapter: str | None
) -> AsyncIterator[dict[str, Any]]:
    """Have SGLang read an input; its `Engine.async_encode` takes no tokens."""
    from sglang.srt.managers.io_struct import EmbeddingReqInput

    request = EmbeddingReqInput(
        input_ids=inputs, dimensions=asked.dimensions, lora_path=adapter, rid=uuid4().hex
    )
    outputs: AsyncIterator[dict[str, Any]] = manager.generate_request(request, None)
    return outputs


def _refuse(message: str) -> None:
    raise JobRejected(ErrorCode.INVALID_REQUEST, message)
