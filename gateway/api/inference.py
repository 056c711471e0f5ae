"""What all routes that generate have in common: from a request's body to a live response."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request, Response
from msgspec.structs import replace

from contract.messages import Job
from gateway.api.fields import GenerationBody, parse
from gateway.http.body import read_body
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, context_of, header
from gateway.jobs.resumption import Resumption, resumption_of
from gateway.lifecycle.process import process_of
from gateway.streams.answers import AnswerSink, WholeAnswer
from gateway.streams.live import LiveResponse

Asked = TypeVar("Asked", bound=GenerationBody)
#: Makes the answer to what was asked, under the name that the model is served as; a resumed one
#: leaves out what the client has already.
AnswerMaker = Callable[[Asked, Job, RequestContext, Resumption | None], AnswerSink]


async def answer(request: Request, form: type[Asked], make: AnswerMaker[Asked]) -> Response:
    """Put the job that a request asks for. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    if context.key is None:
        raise ApiError("missing_api_key", "send an API key")
    await process.turnstile.through()
    body = await read_body(request, process.models.limits.max_body_bytes)
    asked = parse(form, body, context.ignored)
    if context.ignored:
        process.metrics.count_ignoring()
    turn = asked.turn(context.key)
    named = replace(asked.job(context.job_id, context.key.id), turn=turn)
    job = process.admission.check(named, context, asked.own_names, lenient=asked.is_lenient)
    resumption = _resumption(request, asked)
    if resumption is not None:
        job = replace(job, id=resumption.job_id(job), resumable=True)
    shown = replace(job, model=process.models.served_name(job))
    made = make(asked, shown, context, resumption)
    if isinstance(made, WholeAnswer):
        process.admission.check_whole(job, asked.own_names)
    reply = await process.admission.admit(job, made, context, resumption)
    return LiveResponse(process.dispatcher, reply, made.writer)


def _resumption(request: Request, asked: GenerationBody) -> Resumption | None:
    headers = request.scope["headers"]
    key, last = header(headers, b"idempotency-key"), header(headers, b"last-event-id")
    resumption = resumption_of(key, last)
    if resumption is None:
        return None
    what = f"{request.url.path}\0{asked.model_dump_json()}"
    return resumption._replace(digest=hashlib.sha256(what.encode()).hexdigest())
