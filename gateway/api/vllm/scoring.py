"""Reranking and scores, as vLLM has them for models of embeddings: the cosine of the angle between
two vectors. Cross-encoders, which read both texts at once, are not served.

vLLM 0.32 names the two sides of `/score` in four ways; all are taken.
"""

from __future__ import annotations

import math
import sys
import time
from abc import abstractmethod
from array import array
from collections.abc import Mapping
from operator import mul
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import orjson
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Embedding
from contract.messages import Delta, Done, Job, Sampling, VectorDelta
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, Unsupported
from gateway.api.openai.embeddings import EmbeddingUsage
from gateway.api.openai.values import MOST_PROMPTS, Texts
from gateway.http.error_answers import OPENAI
from gateway.http.errors import invalid
from gateway.streams.answers import AnswerChoice, Timings

_SIDES: Final = {
    "data_1": "queries",
    "text_1": "queries",
    "items": "documents",
    "data_2": "documents",
    "text_2": "documents",
}


class ScoringBody(LenientBody, GenerationBody):
    """A request of either route: a score for each of `others`, each beside one of `firsts`, or all
    beside the only one."""

    is_lenient: ClassVar[bool] = True
    model: fields.ModelName
    user: Ignored = None
    use_activation: Ignored = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    max_tokens_per_query: Unsupported = None
    max_tokens_per_doc: Unsupported = None
    instruction: Unsupported = None
    chat_template_kwargs: Unsupported = None

    @property
    @abstractmethod
    def firsts(self) -> list[str]: ...

    @property
    @abstractmethod
    def others(self) -> list[str]: ...

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def job(self, job_id: str, key_id: str) -> Job:
        inputs = (*self.firsts, *self.others)
        if len(inputs) > MOST_PROMPTS:
            raise invalid("documents", f"more than {MOST_PROMPTS} texts in all")
        embedding = Embedding(inputs)
        cut = self.truncate_prompt_tokens or None
        rest: dict[str, Any] = {"embedding": embedding, "truncate_prompt_tokens": cut}
        return Job(job_id, self.model, Sampling(), key_id=key_id, **rest)


class RerankRequest(ScoringBody):
    query: Annotated[str, Field(min_length=1)]
    documents: Texts
    top_n: Annotated[int, Field(ge=0)] | None = None
    return_documents: Ignored = None

    @property
    def firsts(self) -> list[str]:
        return [self.query]

    @property
    def others(self) -> list[str]:
        return self.documents


class ScoreRequest(ScoringBody):
    queries: Texts
    documents: Texts

    @model_validator(mode="before")
    @classmethod
    def _by_any_name(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {_SIDES.get(name, name): each for name, each in value.items()}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.queries) not in (1, len(self.documents)):
            raise PydanticCustomError("sides", "one text, or as many as on the other side")
        return self

    @property
    def firsts(self) -> list[str]:
        return self.queries

    @property
    def others(self) -> list[str]:
        return self.documents


class RerankedDocument(BaseModel):
    text: str


class RerankResult(BaseModel):
    index: int
    document: RerankedDocument
    relevance_score: float


class Reranked(BaseModel):
    """The most relevant first."""

    id: str
    model: str
    usage: EmbeddingUsage
    results: list[RerankResult]


class ScoreData(BaseModel):
    index: int
    object: Literal["score"] = "score"
    score: float


class Scores(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreData]
    usage: EmbeddingUsage


class ScoresSoFar(AnswerChoice):
    """The scores of those vectors that have come; the first `count` are what others are compared
    with."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._firsts: dict[int, array[float]] = {}
        self._scores: dict[int, float] = {}

    @property
    def scores(self) -> list[float]:
        return [score for _, score in sorted(self._scores.items())]

    def add(self, delta: Delta) -> None:
        if not isinstance(delta, VectorDelta):
            return
        vector = unit_of(delta.vector)
        number = delta.number - self._count
        if number < 0:
            self._firsts[delta.number] = vector
        else:
            other = self._firsts[0 if self._count == 1 else number]
            self._scores[number] = sum(map(mul, vector, other))


class ScoresWhole:
    """One JSON object, `Scores`."""

    errors = OPENAI

    def __init__(self, job: Job, asked: ScoringBody) -> None:
        self._job_id = job.id
        self._model = job.model
        self._asked = asked

    def new_choice(self) -> ScoresSoFar:
        return ScoresSoFar(len(self._asked.firsts))

    def body(self, choices: list[ScoresSoFar], done: Done, timings: Timings) -> bytes:
        usage = EmbeddingUsage(prompt_tokens=done.prompt_tokens, total_tokens=done.prompt_tokens)
        told = {"id": f"score-{self._job_id}", "model": self._model, "usage": usage.model_dump()}
        return orjson.dumps(told | self.results(choices[0].scores))

    def results(self, scores: list[float]) -> dict[str, Any]:
        """Return what else the answer has."""
        data = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
        return {"object": "list", "created": int(time.time()), "data": data}


class RerankedWhole(ScoresWhole):
    """One JSON object, `Reranked`, of the best `most`; all if 0."""

    def __init__(self, job: Job, asked: RerankRequest) -> None:
        super().__init__(job, asked)
        self._documents = asked.documents
        self._most = asked.top_n or len(asked.documents)

    def results(self, scores: list[float]) -> dict[str, Any]:
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[: self._most]
        results = [
            {"index": i, "document": {"text": self._documents[i]}, "relevance_score": scores[i]}
            for i in best
        ]
        return {"results": results}


def unit_of(packed: bytes) -> array[float]:
    """Return a vector of length 1 in the direction of one, packed as in `VectorDelta`; one of zeros
    stays."""
    vector = array("f", packed)
    if sys.byteorder == "big":
        vector.byteswap()
    length = math.sqrt(sum(map(mul, vector, vector))) or 1.0
    return array("d", (each / length for each in vector))
