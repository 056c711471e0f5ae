"""Embeddings by vLLM: each input is a request of its own, and the answer comes when all have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contract.asked import Embedding
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.shared.deltas import vector_deltas
from workers.outbox import Outbox


class VllmEmbeddings:
    """The vectors of one job."""

    def __init__(
        self,
        outbox: Outbox,
        job: Job,
        asked: Embedding,
        broke: Callable[[Exception], None],
        ended: Callable[[], object],
    ) -> None:
        self._outbox = outbox
        self._job_id = job.id
        self._broke = broke
        self._ended = ended
        self._vectors: list[bytes] = [b""] * len(asked.inputs)
        self._missing = len(asked.inputs)
        self._prompt_tokens = 0

    def sink(self, number: int) -> Callable[[Any], None]:
        """Where vLLM puts the output of an input, or the exception that ends it."""

        def put(output: Any) -> None:
            error = output if isinstance(output, Exception) else getattr(output, "error", None)
            if error is not None:
                self._ended()
                self._broke(error if isinstance(error, Exception) else RuntimeError(str(error)))
            elif output.finished:
                self._take(number, output)

        return put

    def _take(self, number: int, output: Any) -> None:
        self._vectors[number] = output.outputs.data.float().cpu().numpy().tobytes()
        self._prompt_tokens += len(output.prompt_token_ids)
        self._missing -= 1
        if not self._missing:
            self._ended()
            self._outbox.say_first(self._job_id, vector_deltas(self._vectors))
            self._outbox.done(self._job_id, ("stop",), self._prompt_tokens)


def pooling_params(asked: Embedding) -> Any:
    from vllm import PoolingParams

    return PoolingParams(task="embed", dimensions=asked.dimensions)


def check_purpose(job: Job, *, makes_vectors: bool) -> None:
    """Raises `JobRejected` for text of a model of embeddings, and the other way round."""
    if makes_vectors != (job.embedding is not None):
        message = "this model makes no embeddings"
        if makes_vectors:
            message = "this model makes embeddings only"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
