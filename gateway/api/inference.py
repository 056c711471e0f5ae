"""The way of all routes that generate: from a request's body to a live response."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request, Response
from msgspec.structs import replace
from pydantic import BaseModel

from contract.messages import Job
from gateway.api.fields import GenerationBody, parse
from gateway.http.body import read_body
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import RequestContext, context_of, header
from gateway.jobs.resumption import Resumption, resumption_of
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import AnswerSink, NamedAnswer, WholeAnswer
from gateway.streams.joint import JointAnswer
from gateway.streams.live import LiveResponse
from gateway.streams.reply import Reply

Asked = TypeVar("Asked", bound=GenerationBody)
Form = TypeVar("Form", bound=BaseModel)
#: Makes the answer to what was asked, under the name that the model is served as; a resumed one
#: leaves out what the client has already.
AnswerMaker = Callable[[Asked, Job, RequestContext, Resumption | None], AnswerSink]


async def answer(request: Request, form: type[Asked], make: AnswerMaker[Asked]) -> Response:
    """Put the job that a request asks for, or the jobs. Raises `ApiError`."""
    return await answer_to(request, await read(request, form), make)


async def read(request: Request, form: type[Form]) -> Form:
    """Return what a request asks for. Raises `ApiError`."""
    return understood(request, form, await body_of(request))


async def body_of(request: Request) -> bytes:
    """Return the body of a request that may be asked. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    if context.key is None:
        raise ApiError("missing_api_key", "send an API key")
    await process.turnstile.through()
    return await read_body(request, process.models.most_body_bytes(context.key))


def understood(request: Request, form: type[Form], body: bytes) -> Form:
    """Return what a request asks for by its body. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    asked = of_the_only_model(request, parse(form, body, context.ignored))
    if context.ignored:
        process.metrics.count_ignoring()
    return asked


def of_the_only_model(request: Request, asked: Form) -> Form:
    """Return what is asked for, of the only model that the key may use if it names none. Raises
    `ApiError` if there are several."""
    if getattr(asked, "model", None) != "":
        return asked
    models = [*process_of(request).models.open_to(context_of(request.scope).key)]
    if len(models) != 1:
        raise invalid("model", f"required: this key may use {len(models)} models")
    return asked.model_copy(update={"model": models[0]})


def checked(request: Request, asked: GenerationBody) -> tuple[list[Job], Resumption | None]:
    """Return the jobs that are asked for, if this key may ask for them; and what makes the request
    repeatable. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    if context.key is None:
        raise ApiError("missing_api_key", "send an API key")
    turn = asked.turn(context.key)
    named = [replace(job, turn=turn) for job in asked.jobs(context.job_id, context.key.id)]
    jobs = process.checks.check(named, context, asked.own_names, lenient=asked.is_lenient)
    resumption = _resumption(request, asked)
    if resumption is not None:
        jobs = resumption.named(jobs)
    if context.trace is not None:
        # A job that goes on without its request finds the way back.
        jobs = [replace(job, trace=context.trace.context) for job in jobs]
    return jobs, resumption


async def answer_to(request: Request, asked: Asked, make: AnswerMaker[Asked]) -> Response:
    """Put the jobs of a request that has been read. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    jobs, resumption = checked(request, asked)
    whole = _whole(jobs)
    shown = replace(whole, model=process.models.served_name(whole))
    made = make(asked, shown, context, resumption)
    if process.models.may_move(whole) and isinstance(made, NamedAnswer):
        made.renew = lambda name: make(asked, replace(shown, model=name), context, resumption)
    if isinstance(made, WholeAnswer):
        process.checks.check_whole(whole, jobs, asked.own_names)
    if len(jobs) == 1:
        replies = [await process.admission.admit(jobs[0], made, context, resumption)]
    else:
        joint = JointAnswer(made, len(jobs), jobs[0].sampling.n)
        replies = await _admit_all(process, jobs, joint, context, resumption)
    if resumption is None and context.route is None:
        process.shadows.copy(jobs, asked.own_names)
    return LiveResponse(process.dispatcher, replies, made.writer)


async def _admit_all(
    process: GatewayProcess,
    jobs: list[Job],
    joint: JointAnswer,
    context: RequestContext,
    resumption: Resumption | None,
) -> list[Reply]:
    """Put several jobs of one request, all or none of them. Raises `ApiError`."""
    most = process.models.limits.max_waiting
    if len(jobs) > most:
        raise ApiError("invalid_request", f"at most {most} prompts in a request")
    return await process.admission.admit_all(jobs, joint.parts, context, resumption)


def _whole(jobs: list[Job]) -> Job:
    """Return one job that stands for several of a request in their answer: the first of them with
    the choices of all."""
    if len(jobs) == 1:
        return jobs[0]
    sampling = replace(jobs[0].sampling, n=len(jobs) * jobs[0].sampling.n)
    return replace(jobs[0], sampling=sampling)


def _resumption(request: Request, asked: GenerationBody) -> Resumption | None:
    headers = request.scope["headers"]
    key, last = header(headers, b"idempotency-key"), header(headers, b"last-event-id")
    resumption = resumption_of(key, last)
    if resumption is None:
        return None
    what = f"{request.url.path}\0{asked.model_dump_json()}"
    return resumption._replace(digest=hashlib.sha256(what.encode()).hexdigest())
