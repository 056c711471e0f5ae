"""The endpoints for a batch's lines: the bodies and answers of the routes, without a connection."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from contract.bus.turns import CLASSES
from contract.keys import KeyRecord
from contract.messages import Job
from gateway.api.fields import GenerationBody, parse
from gateway.api.inference import AnswerMaker
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.openai.routes import make_chat, make_text, make_vectors
from gateway.api.openai.schemas import ChatCompletionRequest
from gateway.api.pooling.embeddings import EmbeddingRequest
from gateway.batches.endpoint import Endpoint, LineRequest
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import RequestContext
from gateway.streams.answers import WholeAnswer

Asked = TypeVar("Asked", bound=GenerationBody)


def _endpoint(form: type[Asked], make: AnswerMaker[Asked]) -> Endpoint:
    def ask(body: bytes, job_id: str, key: KeyRecord) -> LineRequest:
        asked = parse(form, body, set())
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
    "/v1/embeddings": _endpoint(EmbeddingRequest, make_vectors),
}
