"""Open requests of all gateway processes, and those that ended last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response

from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.views.request_board import RequestView
from contract.bus.views.trace import find_trace, with_log
from gateway.api.admin.guard import note_change
from gateway.api.admin.schemas import CancelBody, RequestBody, RequestsBody
from gateway.api.openapi import ADMIN_ERRORS, TRACE
from gateway.background.patience import patiently
from gateway.http.errors import ApiError
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.cancelling import cancel_for_all

router = APIRouter(responses=ADMIN_ERRORS)
_ENDED: Final = frozenset({"done", "failed", "left"})
_MOST_ENDED: Final = 500
#: Processes look once a second whether they are watched.
_OTHERS_WITHIN_S: Final = 1.5


@router.get("/requests", summary="Open requests, and those that ended last")
async def list_requests(request: Request) -> RequestsBody:
    process = process_of(request)
    found = await patiently(lambda: _requests(process))
    still_open = sorted(
        (each for each in found if each.state not in _ENDED), key=lambda each: each.began_unix_s
    )
    ended = sorted(
        (each for each in found if each.state in _ENDED),
        key=lambda each: each.began_unix_s + each.total_ms / 1000,
        reverse=True,
    )
    workers = await patiently(lambda: _workers(process, still_open))
    return RequestsBody(
        open=[_body(each, workers.get(each.job_id, "")) for each in still_open],
        ended=[_body(each) for each in ended[:_MOST_ENDED]],
    )


@router.get(
    "/requests/{job_id}/trace",
    summary="A job's life in order, as `./ew trace --json` prints it",
    responses={200: TRACE, **ADMIN_ERRORS},
    response_class=Response,
)
async def trace_request(request: Request, job_id: str) -> Response:
    process = process_of(request)
    config = process.config
    found = await patiently(lambda: find_trace(process.db, config, job_id))
    if found is None:
        days = f"of jobs that have ended, those of the last {config.usage.trace_days} days are"
        raise ApiError("job_not_found", f"no job `{job_id}` is known: {days}")
    whole = await asyncio.to_thread(with_log, found)
    return Response(msgspec.json.encode(whole), media_type="application/json")


@router.post("/requests/{job_id}/cancel", summary="Cancel an open request, whosever it is")
async def cancel_request(request: Request, job_id: str) -> CancelBody:
    process = process_of(request)
    found = await patiently(lambda: _requests(process))
    view = next((each for each in found if each.job_id == job_id), None)
    if view is None:
        raise ApiError("job_not_found", f"there is no request with the job `{job_id}`")
    note_change(request, f"cancel job {job_id} of key {view.key_id}, model {view.model}")
    was_open = await patiently(lambda: cancel_for_all(process.db, view.model, job_id))
    return CancelBody(cancelled=was_open)


async def _requests(process: GatewayProcess) -> list[RequestView]:
    """Return those of all processes. Raises `RedisError`."""
    was_watched = await process.board.watch()
    others = await process.board.read()
    deadline = time.monotonic() + _OTHERS_WITHIN_S
    while not was_watched and time.monotonic() < deadline:
        alive = await Heartbeats(process.db, GATEWAYS).names()
        if alive <= {process.name, *others}:
            break
        await asyncio.sleep(0.1)
        others = await process.board.read()
    own = process.journal.requests()
    return own + [each for name, views in others.items() if name != process.name for each in views]


async def _workers(process: GatewayProcess, requests: Iterable[RequestView]) -> dict[str, str]:
    """By job, the worker that has it. Raises `RedisError`."""
    running = [each for each in requests if each.state != "waiting"]
    pipe = process.db.pipeline(transaction=False)
    for each in running:
        pipe.hget(JobQueue(process.db, each.model).job_key(each.job_id), "worker")
    names = await pipe.execute()
    return {each.job_id: name.decode() for each, name in zip(running, names, strict=True) if name}


def _body(view: RequestView, worker: str = "") -> RequestBody:
    body = RequestBody.model_validate(view)
    return body.model_copy(update={"worker": worker}) if worker else body
