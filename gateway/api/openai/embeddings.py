"""Embeddings: what is asked for, and how it looks on the wire."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, Field

from contract.asked import Embedding
from contract.messages import Delta, Done, Job, Sampling, VectorDelta
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody
from gateway.api.openai.values import Prompts
from gateway.http.error_answers import OPENAI
from gateway.streams.answers import AnswerChoice, Timings


class EmbeddingRequest(LenientBody, GenerationBody):
    model: fields.ModelName
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="Fewer than the model has, for models that are trained for it."
    )
    user: Ignored = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = Field(
        None,
        description="vLLM's: of longer inputs, only the last so many tokens; -1: what fits.",
    )

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def job(self, job_id: str, key_id: str) -> Job:
        inputs = tuple(each if isinstance(each, str) else tuple(each) for each in self.input)
        return Job(
            job_id,
            self.model,
            Sampling(),
            embedding=Embedding(inputs, self.dimensions),
            truncate_prompt_tokens=self.truncate_prompt_tokens or None,
            key_id=key_id,
        )


class EmbeddingBody(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="`base64`: of 4 bytes a number, IEEE 754.")


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingBody]
    model: str
    usage: EmbeddingUsage


class VectorsSoFar(AnswerChoice):
    """The vectors that have come, in JSON. One that comes again is the same."""

    def __init__(self, as_base64: bool) -> None:
        super().__init__()
        self._as_base64 = as_base64
        self.vectors: dict[int, bytes] = {}

    def add(self, delta: Delta) -> None:
        if isinstance(delta, VectorDelta):
            self.vectors[delta.number] = orjson.dumps(self._written(delta.vector))

    def _written(self, vector: bytes) -> str | list[float]:
        if self._as_base64:
            return base64.b64encode(vector).decode()
        numbers = array("f", vector)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()


class EmbeddingsWhole:
    """One JSON object, `Embeddings`."""

    errors = OPENAI

    def __init__(self, job: Job, *, as_base64: bool) -> None:
        self._model = job.model
        self._as_base64 = as_base64

    def new_choice(self) -> VectorsSoFar:
        return VectorsSoFar(self._as_base64)

    def body(self, choices: list[VectorsSoFar], done: Done, timings: Timings) -> bytes:
        vectors = sorted(choices[0].vectors.items())
        usage = EmbeddingUsage(prompt_tokens=done.prompt_tokens, total_tokens=done.prompt_tokens)
        return orjson.dumps(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": orjson.Fragment(vector)}
                    for index, vector in vectors
                ],
                "model": self._model,
                "usage": usage.model_dump(),
            }
        )
