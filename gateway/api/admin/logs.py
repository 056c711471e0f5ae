"""The logs of this host."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from contract.logs.line import LogLine
from gateway.admin.log_tail import LogTail, log_units
from gateway.api.admin.events import endless, json_event
from gateway.api.admin.schemas import LogLineBody, LogLinesBody, LogUnitsBody
from gateway.api.openapi import ADMIN_ERRORS, LOG_STREAM

router = APIRouter(responses=ADMIN_ERRORS)
_MOST_LINES: Final = 5000
#: The most of a log that one event brings; the rest is left out, and the event says so.
_MOST_AT_ONCE: Final = 1000
Units = Annotated[list[str], Query(max_length=64, description="Whose logs; of all if not given.")]
Lines = Annotated[int, Query(ge=0, le=_MOST_LINES, description="How many of the last.")]


@router.get("/logs/units", summary="The processes that have a log")
def list_units() -> LogUnitsBody:
    return LogUnitsBody(units=log_units())


@router.get("/logs", summary="The last lines of logs, by time")
def read_logs(unit: Units = [], lines: Lines = 200) -> LogLinesBody:  # noqa: B006 - FastAPI copies
    found = LogTail(unit).last(lines)
    return LogLinesBody(lines=[LogLineBody.model_validate(each.as_json()) for each in found])


@router.get(
    "/logs/stream",
    summary="The last lines of logs, and then what is written",
    responses={200: LOG_STREAM},
    response_class=Response,
)
async def stream_logs(
    request: Request,
    unit: Units = [],  # noqa: B006 - FastAPI copies
    lines: Lines = 200,
) -> Response:
    tail = await asyncio.to_thread(LogTail, unit)
    is_first = True

    async def look() -> bytes:
        nonlocal is_first
        found = await asyncio.to_thread(tail.last, lines) if is_first else []
        found += await asyncio.to_thread(tail.new_lines)
        is_first = False
        return _event(found, max(lines, _MOST_AT_ONCE)) if found else b""

    return endless(request, look)


def _event(lines: list[LogLine], most: int) -> bytes:
    shown = lines[max(0, len(lines) - most) :]
    body = {"lines": [each.as_json() for each in shown], "left_out": len(lines) - len(shown)}
    return json_event(body, "lines")
