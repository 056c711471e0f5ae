"""Tasks: commands of ew's own, run in the background by this host's supervisor."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from contract.supervision.control import CancelTask, RunTask
from contract.supervision.tasks import (
    BenchTask,
    EstimateTask,
    PullTask,
    Task,
    TaskKind,
    TaskRecord,
    find_task,
    read_tasks,
    task_log,
    task_result,
)
from gateway.admin.supervisor import begin_task, cancel_task
from gateway.api.admin.guard import note_change
from gateway.api.admin.task_bodies import (
    BenchRequest,
    ModelRequest,
    NewTaskBody,
    TaskBody,
    TaskResultBody,
    TasksBody,
)
from gateway.api.inference import read
from gateway.api.openapi import ADMIN_CHANGE_ERRORS, json_request
from gateway.http.errors import ApiError

router = APIRouter(responses=ADMIN_CHANGE_ERRORS)
_LOG_LINES = 50
Kind = Annotated[TaskKind | None, Query(description="Those of one kind only.")]


@router.get("/tasks", summary="The tasks that are kept, the newest first")
def list_tasks(kind: Kind = None) -> TasksBody:
    found = [each for each in read_tasks() if kind in (None, each.kind)]
    return TasksBody(tasks=[TaskBody(**_fields(each)) for each in found])


@router.get("/tasks/{task_id}", summary="A task, with what it has found")
def get_task(task_id: str) -> TaskResultBody:
    record = find_task(task_id)
    if record is None:
        raise ApiError("not_found", f"there is no task `{task_id}`, or it is no longer kept")
    log = task_log(task_id, _LOG_LINES)
    return TaskResultBody(**_fields(record), result=task_result(task_id), log=log)


@router.post(
    "/tasks/bench",
    status_code=202,
    summary="Measure a model, as `./ew bench` does",
    openapi_extra=json_request(BenchRequest),
)
async def begin_bench(request: Request) -> NewTaskBody:
    asked = await read(request, BenchRequest)
    task = BenchTask(
        asked.model, tuple(asked.streams), asked.seconds, asked.tokens, asked.prompt_words
    )
    return await _begin(request, task)


@router.post(
    "/tasks/pull",
    status_code=202,
    summary="Download a model, as `./ew models pull` does",
    openapi_extra=json_request(ModelRequest),
)
async def begin_pull(request: Request) -> NewTaskBody:
    return await _begin(request, PullTask((await read(request, ModelRequest)).model))


@router.post(
    "/tasks/estimate",
    status_code=202,
    summary="See what a model needs of the GPUs and where it would go, as `./ew estimate` does",
    openapi_extra=json_request(ModelRequest),
)
async def begin_estimate(request: Request) -> NewTaskBody:
    return await _begin(request, EstimateTask((await read(request, ModelRequest)).model))


@router.post("/tasks/{task_id}/cancel", status_code=204, summary="End a task that runs")
async def end_task(request: Request, task_id: str) -> Response:
    if await asyncio.to_thread(find_task, task_id) is None:
        raise ApiError("not_found", f"there is no task `{task_id}`, or it is no longer kept")
    note_change(request, f"cancel task {task_id}")
    await cancel_task(CancelTask(task_id))
    return Response(status_code=204)


async def _begin(request: Request, task: Task) -> NewTaskBody:
    asked = RunTask(task)
    note_change(request, msgspec.json.encode(asked).decode())
    return NewTaskBody(id=await begin_task(asked))


def _fields(record: TaskRecord) -> dict[str, Any]:
    settings = msgspec.to_builtins(record.task)
    del settings["type"], settings["model"]
    return {
        "id": record.id,
        "kind": record.kind,
        "model": record.task.model,
        "settings": settings,
        "state": record.state,
        "began_unix_s": record.began_unix_s,
        "ended_unix_s": record.ended_unix_s,
        "last_line": record.remark or _last_word(record),
    }


def _last_word(record: TaskRecord) -> str:
    """Return the last line that a command has written; of one that failed, its error, which a hint
    may follow."""
    lines = task_log(record.id, _LOG_LINES)
    errors = [each for each in lines if each.startswith("error: ") and record.state == "failed"]
    return next(iter([*errors[-1:], *lines[-1:]]), "")
