"""Embeddings in Cohere's words (`/v2/embed`), as vLLM 0.32 has them. Their rerank is `/v2/rerank`.

| a request's | becomes |
|---|---|
| `texts`, or `inputs` of texts | the inputs; several texts of one are one, a line each |
| `input_type` | what the model's inputs begin with for this purpose; refused if it has none |
| `output_dimension` | `dimensions` |
| `truncate`, `max_tokens` | the truncation: `START` keeps the last tokens |
| `embedding_types` | how each vector is written; `float` if unset |
| `images`, and inputs that have some | refused |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Pooling
from contract.messages import Done, Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, LenientBody, Unsupported
from gateway.api.openai.values import MOST_PROMPTS, PromptText, Texts
from gateway.api.pooling.embeddings import Dimensions
from gateway.api.pooling.vectors import VectorSink, bits_of, json_of_base64, json_of_floats
from gateway.http.error_answers import OPENAI
from gateway.http.errors import invalid
from gateway.streams.dialects import Timings

EmbeddingType = Literal["float", "base64", "binary", "ubinary"]
_WRITERS: Final = {
    "float": json_of_floats,
    "base64": json_of_base64,
    "binary": lambda packed: bits_of(packed, signed=True),
    "ubinary": lambda packed: bits_of(packed, signed=False),
}


class CoherePart(LenientBody):
    place = "inputs[].content[]."
    type: Literal["text"]
    text: PromptText


class CohereInput(LenientBody):
    place = "inputs[]."
    content: Annotated[list[CoherePart], Field(min_length=1, max_length=64, fail_fast=True)]


class CohereEmbedRequest(LenientBody, GenerationBody):
    is_lenient = True
    model: fields.ModelName
    texts: Texts | None = None
    inputs: (
        Annotated[list[CohereInput], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
        | None
    ) = None
    images: Unsupported = None
    input_type: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    output_dimension: Dimensions | None = None
    embedding_types: (
        Annotated[list[EmbeddingType], Field(min_length=1, max_length=4, fail_fast=True)] | None
    ) = None
    truncate: Literal["NONE", "START", "END"] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.texts is None) == (self.inputs is None):
            raise PydanticCustomError("one", "give `texts` or `inputs`")
        return self

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def job(self, job_id: str, key_id: str) -> Job:
        """Raises `ApiError`."""
        cut = None if self.truncate == "NONE" else self.max_tokens or -1
        if cut is None and self.max_tokens is not None:
            raise invalid("max_tokens", "cannot be checked without a truncation: leave it out")
        pooling = Pooling(
            self._texts(),
            self.output_dimension,
            keeps="last" if self.truncate == "START" else None,
            input_type=self.input_type or "",
        )
        return Job(
            job_id,
            self.model,
            Sampling(),
            pooling=pooling,
            truncate_prompt_tokens=cut,
            key_id=key_id,
        )

    def _texts(self) -> tuple[str, ...]:
        if self.texts is not None:
            return tuple(self.texts)
        inputs = self.inputs or []
        return tuple("\n".join(part.text for part in each.content) for each in inputs)


class CohereVectors(BaseModel):
    """By type, what the request asked for."""

    float: list[list[float]] | None = None
    base64: list[str] | None = None
    binary: list[list[int]] | None = Field(
        None, description="8 numbers a byte, 1 if not negative; less 128."
    )
    ubinary: list[list[int]] | None = None


class CohereEmbeddings(BaseModel):
    id: str
    embeddings: CohereVectors
    texts: list[str] | None
    meta: dict[str, Any]
    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"


class CohereWhole:
    """One JSON object, `CohereEmbeddings`."""

    errors = OPENAI

    def __init__(self, job: Job, asked: CohereEmbedRequest) -> None:
        self._job_id = job.id
        self._texts = asked.texts
        self._types = asked.embedding_types or ["float"]

    def new_choice(self) -> VectorSink:
        return VectorSink(tuple(_WRITERS[each] for each in self._types))

    def body(self, choices: list[VectorSink], done: Done, timings: Timings) -> bytes:
        written = [each for _, each in sorted(choices[0].written.items())]
        embeddings: dict[str, Any] = {}
        for place, name in enumerate(self._types):
            embeddings[name] = [orjson.Fragment(each[place]) for each in written]
        units = {"input_tokens": done.prompt_tokens, "image_tokens": 0}
        return orjson.dumps(
            {
                "id": f"embd-{self._job_id}",
                "embeddings": embeddings,
                "texts": self._texts,
                "meta": {"api_version": {"version": "2"}, "billed_units": units},
                "response_type": "embeddings_by_type",
            }
        )
