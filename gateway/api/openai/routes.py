"""OpenAI's API, as its official clients use it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from contract.config import Named, names_of
from contract.messages import Job
from gateway.api.inference import answer
from gateway.api.openai.bodies import (
    ChatCompletion,
    ChatCompletionChunk,
    ModelCapabilities,
    OpenAIModel,
    OpenAIModels,
    TextCompletion,
)
from gateway.api.openai.chat import ChatStream, ChatWhole
from gateway.api.openai.chat_request import BatchChatRequest, ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.openai.completions import TextStream, TextWhole
from gateway.api.openai.detailed_chat import DetailedChatStream, DetailedChatWhole
from gateway.api.openai.detailed_completions import DetailedTextStream, DetailedTextWhole
from gateway.api.openai.ending_stream import EndingStream
from gateway.api.openai.schemas import GenerationRequest
from gateway.api.openapi import (
    OPENAI_ERRORS,
    OPENAI_GENERATION_ERRORS,
    RESUME_PARAMETERS,
    event_stream,
    json_request,
)
from gateway.api.pooling.embeddings import EmbeddingRequest, Embeddings, EmbeddingsWhole
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.refusals import no_model
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import AnswerSink, WholeAnswer


class ModelName(Convertor[str]):
    """A model's name in a path: it may have slashes, but none at its end."""

    regex = ".*[^/]"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", ModelName())
router = APIRouter(prefix="/v1", tags=["openai"])
#: For clients whose base URL lacks `/v1`. llama.cpp's server and LiteLLM's proxy have these paths.
unversioned = APIRouter(include_in_schema=False)
_ENDING: Final = (
    "With `stream`: chunks, and `[DONE]` unless the answer fails. With an `Idempotency-Key` "
    "they have ids; send the request again, with `Last-Event-ID`, for the rest."
)


def _described(form: type[GenerationRequest]) -> dict[str, Any]:
    return {**json_request(form), "parameters": RESUME_PARAMETERS}


@router.post(
    "/chat/completions",
    summary="Chat completion",
    openapi_extra=_described(ChatCompletionRequest),
    responses={
        200: {"model": ChatCompletion, **event_stream(_ENDING, ChatCompletionChunk)},
        **OPENAI_GENERATION_ERRORS,
    },
    response_class=Response,
)
async def create_chat_completion(request: Request) -> Response:
    return await answer(request, ChatCompletionRequest, make_chat)


@router.post(
    "/chat/completions/batch",
    summary="Several chat completions",
    openapi_extra=json_request(BatchChatRequest),
    responses={200: {"model": ChatCompletion}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def create_chat_completions(request: Request) -> Response:
    return await answer(request, BatchChatRequest, make_chats)


@router.post(
    "/completions",
    summary="Text completion",
    openapi_extra=_described(CompletionRequest),
    responses={
        200: {"model": TextCompletion, **event_stream(_ENDING, TextCompletion)},
        **OPENAI_GENERATION_ERRORS,
    },
    response_class=Response,
)
async def create_completion(request: Request) -> Response:
    return await answer(request, CompletionRequest, make_text)


@router.post(
    "/embeddings",
    summary="Embeddings",
    openapi_extra=json_request(EmbeddingRequest),
    responses={200: {"model": Embeddings}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def create_embeddings(request: Request) -> Response:
    return await answer(request, EmbeddingRequest, make_vectors)


@router.get("/models", summary="The models that this key may use", responses=OPENAI_ERRORS)
async def list_openai_models(request: Request) -> OpenAIModels:
    process = process_of(request)
    key = context_of(request.scope).key
    models = [
        _model(process, name, Named(model))
        for model, config in process.models.open_to(key).items()
        for name in names_of(model, config)
    ]
    adapters = [
        _model(process, each.adapter or "", each) for each in process.models.adapters_open_to(key)
    ]
    return OpenAIModels(data=models + adapters)


@router.get("/models/{model:model}", summary="One model", responses=OPENAI_ERRORS)
async def retrieve_openai_model(request: Request, model: str) -> OpenAIModel:
    process = process_of(request)
    found = process.models.find(model, context_of(request.scope).key)
    if found is None:
        raise no_model(model)
    return _model(process, model, found)


def _model(process: GatewayProcess, name: str, named: Named) -> OpenAIModel:
    status = process.models.status(named.model)
    takes = status.takes or ()
    return OpenAIModel(
        id=name,
        root=named.adapter or named.model,
        parent=named.model if named.adapter else None,
        created=process.started_unix_s,
        owned_by="ew",
        max_model_len=status.max_model_len,
        max_context_length=status.max_model_len,
        capabilities=ModelCapabilities(vision="image" in takes, audio="audio" in takes),
        state=status.state.value,
    )


for _route in router.routes:
    if isinstance(_route, APIRoute):
        _path = _route.path.removeprefix("/v1")
        unversioned.add_api_route(_path, _route.endpoint, methods=list(_route.methods or ()))


def make_chat(
    asked: ChatCompletionRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    if asked.stream:
        after = resumption.after.seq if resumption else -1
        return EndingStream(_chat_stream(asked, job, bool(resumption)), context.request_id, after)
    form, detail = asked.form, asked.detail
    whole = ChatWhole(job, form=form)
    if not detail.is_plain:
        whole = DetailedChatWhole(job, detail, form=form)
    return WholeAnswer(whole, context.request_id, job.sampling.n)


def make_chats(
    asked: BatchChatRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    """`job` has the choices of all conversations."""
    form, detail = asked.form, asked.detail
    whole = ChatWhole(job, form=form)
    if not detail.is_plain:
        whole = DetailedChatWhole(job, detail, form=form, prompts=len(asked.messages))
    return WholeAnswer(whole, context.request_id, job.sampling.n)


def _chat_stream(asked: ChatCompletionRequest, job: Job, numbered: bool) -> ChatStream:
    usage, form, detail = asked.include_usage, asked.form, asked.detail
    if detail.is_plain:
        return ChatStream(job, include_usage=usage, numbered=numbered, form=form)
    return DetailedChatStream(job, detail, include_usage=usage, numbered=numbered, form=form)


def make_text(
    asked: CompletionRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    """`job` has the choices of all prompts."""
    if asked.stream:
        numbered = bool(resumption) and len(asked.prompt) == 1
        after = resumption.after.seq if resumption else -1
        return EndingStream(_text_stream(asked, job, numbered), context.request_id, after)
    whole = TextWhole(job)
    if not asked.is_plain:
        best, logprobs = asked.n or 1, asked.logprobs
        whole = DetailedTextWhole(
            job, asked.detail, choices=asked.choices, best=best, logprobs=logprobs
        )
    return WholeAnswer(whole, context.request_id, job.sampling.n)


def _text_stream(asked: CompletionRequest, job: Job, numbered: bool) -> TextStream:
    usage = asked.include_usage
    if asked.is_plain:
        return TextStream(job, include_usage=usage, numbered=numbered)
    return DetailedTextStream(
        job, asked.detail, choices=asked.choices, include_usage=usage, numbered=numbered
    )


def make_vectors(
    asked: EmbeddingRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    dialect = EmbeddingsWhole(job, as_base64=asked.encoding_format == "base64")
    return WholeAnswer(dialect, context.request_id)
