"""Reranking and scores, as vLLM has them: by a cross-encoder, which reads both texts at once, or by
the vectors of each. The worker of the model knows which of them it is.

vLLM 0.32 names the two sides of `/score` in four ways; all are taken.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Pooling, Template
from contract.messages import Delta, Done, Job, VectorDelta
from gateway.api.fields import Ignored
from gateway.api.openai.values import MOST_PROMPTS, TemplateArguments, Texts
from gateway.api.pooling.inputs import KEPT, PoolingBody, PoolingUsage, usage_of
from gateway.api.pooling.vectors import numbers_of
from gateway.http.error_answers import OPENAI
from gateway.http.errors import invalid
from gateway.streams.dialects import AnswerChoice, Timings

_SIDES: Final = {
    "data_1": "queries",
    "text_1": "queries",
    "items": "documents",
    "data_2": "documents",
    "text_2": "documents",
}


MostTokens = Annotated[int, Field(ge=0, le=1_000_000, description="0: all.")]


class ScoringBody(PoolingBody):
    """A request of either route: a score for each of `others`, each beside one of `firsts`, or all
    beside the only one."""

    max_tokens_per_query: MostTokens = 0
    max_tokens_per_doc: MostTokens = 0
    instruction: str | None = Field(None, description="For the model's `score_template`.")
    chat_template_kwargs: TemplateArguments | None = None

    @property
    @abstractmethod
    def firsts(self) -> list[str]: ...

    @property
    @abstractmethod
    def others(self) -> list[str]: ...

    def job(self, job_id: str, key_id: str) -> Job:
        inputs = (*self.firsts, *self.others)
        if len(inputs) > MOST_PROMPTS:
            raise invalid("documents", f"more than {MOST_PROMPTS} texts in all")
        pooling = Pooling(
            inputs,
            task="score",
            queries=len(self.firsts),
            activation=self.use_activation,
            query_tokens=self.max_tokens_per_query,
            document_tokens=self.max_tokens_per_doc,
            keeps=KEPT[self.truncation_side],
        )
        return self.pooling_job(job_id, key_id, pooling, template=self._template())

    def _template(self) -> Template | None:
        """Return the arguments of the template; `instruction` is one that others go before."""
        arguments = {"instruction": self.instruction} if self.instruction else {}
        arguments |= self.chat_template_kwargs or {}
        return Template(orjson.dumps(arguments).decode()) if arguments else None


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
    usage: PoolingUsage
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
    usage: PoolingUsage


class ScoresSoFar(AnswerChoice):
    """The scores that have come."""

    def __init__(self) -> None:
        super().__init__()
        self._scores: dict[int, float] = {}

    @property
    def scores(self) -> list[float]:
        return [score for _, score in sorted(self._scores.items())]

    def add(self, delta: Delta) -> None:
        if isinstance(delta, VectorDelta):
            self._scores[delta.number] = numbers_of(delta.vector)[0]


class ScoresWhole:
    """One JSON object, `Scores`."""

    errors = OPENAI

    def __init__(self, job: Job) -> None:
        self._job_id = job.id
        self._model = job.model

    def new_choice(self) -> ScoresSoFar:
        return ScoresSoFar()

    def body(self, choices: list[ScoresSoFar], done: Done, timings: Timings) -> bytes:
        usage = usage_of(done.prompt_tokens)
        told = {"id": f"score-{self._job_id}", "model": self._model, "usage": usage}
        return orjson.dumps(told | self.results(choices[0].scores))

    def results(self, scores: list[float]) -> dict[str, Any]:
        """Return what else the answer has."""
        data = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
        return {"object": "list", "created": int(time.time()), "data": data}


class RerankedWhole(ScoresWhole):
    """One JSON object, `Reranked`, of the best `most`; all if 0."""

    def __init__(self, job: Job, asked: RerankRequest) -> None:
        super().__init__(job)
        self._documents = asked.documents
        self._most = asked.top_n or len(asked.documents)

    def results(self, scores: list[float]) -> dict[str, Any]:
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[: self._most]
        results = [
            {"index": i, "document": {"text": self._documents[i]}, "relevance_score": scores[i]}
            for i in best
        ]
        return {"results": results}
