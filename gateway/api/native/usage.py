"""The usage of keys, in ew's own API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from redis.exceptions import RedisError

from contract.bus.records.usage_accounts import BY, By, TooManyRows, UsageAccounts, UsageRow
from gateway.api.admin.guard import admin_key
from gateway.api.native.answer_body import AnswerBody
from gateway.api.openapi import ADMIN_ERRORS, NATIVE_ERRORS
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import context_of
from gateway.lifecycle.process import process_of

router = APIRouter(prefix="/api/v1", tags=["usage"])
_ERRORS: Final = {**NATIVE_ERRORS, 403: ADMIN_ERRORS[403]}
#: If the request does not say since when.
_DAYS: Final = 30
#: Each day and model is a look into Redis.
_MOST_DAYS: Final = 366
#: About 20 MB.
_MOST_ROWS: Final = 100_000


class UsageBody(AnswerBody):
    """The usage of one key, model or day. `key` (its id), `model` and `day` are there if it was
    asked for by them."""

    key: str | None = None
    model: str | None = None
    day: str | None = Field(None, description="Of UTC, as in 2026-11-28; that of the answer's end.")
    requests: int = Field(description="Those that have ended, however they did.")
    errors: int = Field(description="How many of them failed.")
    cancelled: int = Field(description="How many were cancelled, or left by their clients.")
    prompt_tokens: int
    cached_tokens: int = Field(description="Of the prompts, what a cache had.")
    completion_tokens: int
    reasoning_tokens: int = Field(description="How many of those were reasoning.")
    engine_seconds: float = Field(description="What ran at the same time shares it equally.")


class UsagesBody(AnswerBody):
    """The usage on some days of UTC, both included."""

    since: date
    until: date
    usage: list[UsageBody]


Since = Annotated[date | None, Query(description="The first day; 30 days until the last.")]
Until = Annotated[date | None, Query(description="The last day; today, if it is not given.")]
OfAll = Annotated[
    bool, Query(alias="all", description="That of all keys; for keys with the scope `admin`.")
]
Bys = Annotated[list[By] | None, Query(description="What each sum is for; may be given again.")]


@router.get(
    "/usage",
    summary="What this key, or all, have used",
    response_model=UsagesBody,
    responses=_ERRORS,
)
async def read_usage(
    request: Request,
    by: Bys = None,
    since: Since = None,
    until: Until = None,
    of_all: OfAll = False,
) -> Response:
    process, key = process_of(request), context_of(request.scope).key
    if of_all:
        admin_key(request)
    last = until or datetime.now(UTC).date()
    first = since or last - min(timedelta(_DAYS - 1), last - date.min)
    if first > last:
        raise invalid("since", f"{first} is after {last}")
    if (last - first).days >= _MOST_DAYS:
        raise invalid("since", f"more than {_MOST_DAYS} days before {last}")
    asked = by or (["key", "model", "day"] if of_all else ["model", "day"])
    wanted = [each for each in BY if each in asked]
    key_id = None if of_all else (key.id if key else "")
    models = process.models.configured
    try:
        rows = await UsageAccounts(process.db).report(
            first, last, by=wanted, key=key_id, models=models, most=_MOST_ROWS
        )
    except RedisError:
        raise ApiError("backend_down", "Redis cannot be reached at the moment") from None
    except TooManyRows:
        message = f"the answer has more than {_MOST_ROWS} rows; ask for fewer days, or less in `by`"
        raise invalid("since", message) from None
    # Many rows take a while, and meanwhile others are answered.
    body = await asyncio.to_thread(_encoded, UsagesBody(since=first, until=last, usage=[]), rows)
    return Response(body, media_type="application/json")


def _encoded(body: UsagesBody, rows: Sequence[UsageRow]) -> str:
    """Return a body that is empty so far, with its rows."""
    empty = body.model_dump_json(by_alias=True)
    told = ",".join(_body(row).model_dump_json(by_alias=True) for row in rows)
    return f"{empty.removesuffix(']}')}{told}]}}"


def _body(row: UsageRow) -> UsageBody:
    *counts, engine_ms = row.counts
    named = dict(zip(row.counts._fields, counts, strict=False))
    return UsageBody(
        key=row.key, model=row.model, day=row.day, engine_seconds=engine_ms / 1000, **named
    )
