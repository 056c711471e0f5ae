"""The endpoints for a batch's lines: the bodies and answers of the routes, without a connection."""

from __future__ import annotations

from typing import Any, Final, Self, TypeVar

from msgspec.structs import replace
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from contract.bus.turns import CLASSES
from contract.keys import KeyRecord
from contract.messages import Job
from gateway.api.fields import GenerationBody, parse
from gateway.api.inference import AnswerMaker
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.openai.routes import make_chat, make_text, make_vectors
from gateway.api.pooling.classes import ClassifyRequest
from gateway.api.pooling.embeddings import EmbeddingRequest
from gateway.api.pooling.routes import make_classes, make_ranking, make_scores
from gateway.api.pooling.scoring import RerankRequest, ScoreRequest
from gateway.api.responses.kept import KeptRequest
from gateway.api.responses.schemas import ResponsesRequest
from gateway.api.responses.wire import ResponseWhole
from gateway.batches.endpoint import Endpoint, LineRequest
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import RequestContext
from gateway.jobs.resumption import Resumption
from gateway.streams.answers import AnswerSink, WholeAnswer

Asked = TypeVar("Asked", bound=GenerationBody)


def _make_response(
    asked: ResponsesRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    """The answer is in the output file, and not to be asked for by its id."""
    asked = asked.model_copy(update={"store": False})
    shape = KeptRequest.of(asked, len(asked.input), job, "in_progress").shape()
    return WholeAnswer(ResponseWhole(shape), context.request_id)


class _ResponseLine(ResponsesRequest):
    """A response of which nothing is stored, before it or after it."""

    @model_validator(mode="after")
    def _is_alone(self) -> Self:
        if self.background or self.previous_response_id:
            message = "`background` and `previous_response_id` are not for lines of a batch"
            raise PydanticCustomError("alone", message)
        return self


def _endpoint(form: type[Asked], make: AnswerMaker[Asked]) -> Endpoint:
    def ask(body: bytes, job_id: str, key: KeyRecord) -> LineRequest:
        asked = parse(form, body, set())
        if getattr(asked, "model", None) == "":
            raise invalid("model", "required")
        if getattr(asked, "stream", None):
            raise invalid("stream", "the answers of a batch are not streamed")

        def whole(job: Job, context: RequestContext) -> WholeAnswer[Any]:
            made = make(asked, job, context, None)
            if not isinstance(made, WholeAnswer):
                raise ApiError("internal_error", "a line has no whole answer")
            return made

        jobs = asked.jobs(job_id, key.id)
        if len(jobs) > 1:
            raise invalid("prompt", "a line of a batch has one prompt")
        turn = asked.turn(key)
        if CLASSES.index(turn.priority) < CLASSES.index("batch"):
            turn = replace(turn, priority="batch")
        job = replace(jobs[0], turn=turn)
        return LineRequest(job, asked.own_names, asked.is_lenient, whole)

    return ask


#: By the path of the route.
ENDPOINTS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": _endpoint(ChatCompletionRequest, make_chat),
    "/v1/completions": _endpoint(CompletionRequest, make_text),
    "/v1/responses": _endpoint(_ResponseLine, _make_response),
    "/v1/embeddings": _endpoint(EmbeddingRequest, make_vectors),
    "/v1/rerank": _endpoint(RerankRequest, make_ranking),
    "/v1/score": _endpoint(ScoreRequest, make_scores),
    "/v1/classify": _endpoint(ClassifyRequest, make_classes),
}
