"""`/classify` and `/pooling`, as vLLM 0.32 has them: how probable a model's classes are, and
whatever else a pooling model was made for."""

from __future__ import annotations

import time
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from contract.asked import Pooling
from contract.messages import Done, Job
from gateway.api.fields import Unsupported
from gateway.api.pooling.inputs import KEPT, InputsBody, PoolingUsage, usage_of
from gateway.api.pooling.vectors import Bytes32, LittleEndian, VectorsSoFar
from gateway.http.error_answers import OPENAI
from gateway.streams.dialects import Timings


class ClassifyRequest(InputsBody):
    def job(self, job_id: str, key_id: str) -> Job:
        keeps = KEPT[self.truncation_side]
        pooling = Pooling(
            self.inputs(), task="classify", activation=self.use_activation, keeps=keeps
        )
        return self.job_for(job_id, key_id, pooling)


class PoolingRequest(InputsBody):
    task: Literal["embed", "classify", "token_embed", "token_classify"] | None = Field(
        None, description="What the model is served for if unset."
    )
    encoding_format: Literal["float", "base64"] | None = None
    embed_dtype: Bytes32 = None
    endianness: LittleEndian | None = None
    dimensions: Unsupported = None

    def job(self, job_id: str, key_id: str) -> Job:
        keeps = KEPT[self.truncation_side]
        pooling = Pooling(
            self.inputs(), task=self.task or "any", activation=self.use_activation, keeps=keeps
        )
        return self.job_for(job_id, key_id, pooling)


class ClassData(BaseModel):
    index: int
    label: str | None = Field(description="The name of the most probable class.")
    probs: list[float]
    num_classes: int


class Classes(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassData]
    usage: PoolingUsage


class PooledData(BaseModel):
    index: int
    object: Literal["pooling"] = "pooling"
    data: list[list[float]] | list[float] | str = Field(
        description="One list for each token, where the model says something of each; `base64`: "
        "all of them in one, of 4 bytes a number, IEEE 754."
    )


class PooledBody(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PooledData]
    usage: PoolingUsage


class PooledWhole:
    """One JSON object, a `PooledBody`."""

    errors = OPENAI
    kind = "pooling"

    def __init__(self, job: Job, *, as_base64: bool = False) -> None:
        self._job_id = job.id
        self._model = job.model
        self._as_base64 = as_base64

    def new_choice(self) -> VectorsSoFar:
        return VectorsSoFar(as_base64=self._as_base64)

    def body(self, choices: list[VectorsSoFar], done: Done, timings: Timings) -> bytes:
        return orjson.dumps(
            {
                "id": f"{self.kind}-{self._job_id}",
                "object": "list",
                "created": int(time.time()),
                "model": self._model,
                "data": self.data(choices[0]),
                "usage": usage_of(done.prompt_tokens),
            }
        )

    def data(self, vectors: VectorsSoFar) -> list[dict[str, Any]]:
        """Return what is told of each input."""
        return [
            {"index": index, "object": "pooling", "data": orjson.Fragment(each.json)}
            for index, each in enumerate(vectors.inputs())
        ]


class ClassesWhole(PooledWhole):
    """One JSON object, `Classes`."""

    kind = "classify"

    def data(self, vectors: VectorsSoFar) -> list[dict[str, Any]]:
        return [
            {
                "index": index,
                "label": each.label or None,
                "probs": orjson.Fragment(each.json),
                "num_classes": each.size,
            }
            for index, each in enumerate(vectors.inputs())
        ]
