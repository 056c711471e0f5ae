"""Transcriptions and translations of speech, as OpenAI has them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from contract.asked import SpeechTask
from contract.messages import Job
from gateway.api.audio.form import SpeechForm, read_form
from gateway.api.audio.wire import SpeechAnswer, SpeechStream, SpeechWhole
from gateway.api.inference import answer_to, of_the_only_model
from gateway.api.openapi import OPENAI_GENERATION_ERRORS
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import process_of
from gateway.streams.answers import AnswerSink, StreamAnswer

router = APIRouter(prefix="/v1/audio", tags=["openai"], include_in_schema=False)


@router.post("/transcriptions", responses=OPENAI_GENERATION_ERRORS, response_class=Response)
async def create_transcription(request: Request) -> Response:
    return await _write_down(request, "transcribe")


@router.post("/translations", responses=OPENAI_GENERATION_ERRORS, response_class=Response)
async def create_translation(request: Request) -> Response:
    return await _write_down(request, "translate")


async def _write_down(request: Request, task: SpeechTask) -> Response:
    """Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    if context.key is None:
        raise ApiError("missing_api_key", "send an API key")
    await process.turnstile.through()
    media = process.config.gateway.media
    form = await read_form(request, task, media.max_bytes, media.max_speech_s, context.ignored)
    return await answer_to(request, of_the_only_model(request, form), make_speech)


def make_speech(
    asked: SpeechForm, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    if asked.stream:
        dialect = SpeechStream(job, include_usage=bool(asked.stream_include_usage))
        return StreamAnswer(dialect, context.request_id)
    whole = SpeechWhole(job, asked.response_format, asked.temperature)
    return SpeechAnswer(whole, context.request_id, asked.response_format)
