"""The audit log: what operators have changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.admin.audit import read_entries
from gateway.api.openapi import ADMIN_ERRORS

router = APIRouter(responses=ADMIN_ERRORS)
Text = Annotated[str, Query(max_length=200, description="Those alone in which it stands.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]


class AuditEntryBody(BaseModel):
    """A change that was asked for, noted before it was made. `change` is the JSON of what the
    supervisor was asked, or a text."""

    time: str | None
    key_id: str
    key_name: str
    address: str
    change: str


class AuditBody(BaseModel):
    entries: list[AuditEntryBody]


@router.get("/audit", summary="What was changed over this API, by whom, the newest first")
def list_changes(text: Text = "", limit: Limit = 200) -> AuditBody:
    entries = read_entries(text, limit)
    return AuditBody(entries=[AuditEntryBody(**entry._asdict()) for entry in entries])
