"""Embeddings: what is asked for in OpenAI's words, and how it looks on the wire."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, Field

from contract.asked import Pooling
from contract.messages import Done, Job
from gateway.api.pooling.inputs import KEPT, InputsBody, PoolingUsage, usage_of
from gateway.api.pooling.vectors import Bytes32, LittleEndian, VectorsSoFar
from gateway.http.error_answers import OPENAI
from gateway.streams.dialects import Timings

Dimensions = Annotated[int, Field(ge=1, le=65_536)]


class EmbeddingRequest(InputsBody):
    encoding_format: Literal["float", "base64"] | None = None
    embed_dtype: Bytes32 = None
    endianness: LittleEndian | None = None
    dimensions: Dimensions | None = Field(
        None, description="Fewer than the model has, for models that are trained for it."
    )

    def job(self, job_id: str, key_id: str) -> Job:
        pooling = Pooling(
            self.inputs(),
            self.dimensions,
            activation=self.use_activation,
            keeps=KEPT[self.truncation_side],
        )
        return self.job_for(job_id, key_id, pooling)


class EmbeddingBody(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="`base64`: of 4 bytes a number, IEEE 754.")


class Embeddings(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    data: list[EmbeddingBody]
    model: str
    usage: PoolingUsage


class EmbeddingsWhole:
    """One JSON object, `Embeddings`."""

    errors = OPENAI

    def __init__(self, job: Job, *, as_base64: bool) -> None:
        self._job_id = job.id
        self._model = job.model
        self._as_base64 = as_base64

    def new_choice(self) -> VectorsSoFar:
        return VectorsSoFar(as_base64=self._as_base64)

    def body(self, choices: list[VectorsSoFar], done: Done, timings: Timings) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": orjson.Fragment(each.json)}
            for index, each in enumerate(choices[0].inputs())
        ]
        usage = usage_of(done.prompt_tokens)
        told = {"id": f"embd-{self._job_id}", "object": "list", "created": int(time.time())}
        return orjson.dumps(told | {"data": data, "model": self._model, "usage": usage})
