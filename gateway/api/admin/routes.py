"""All routes of the administration API."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from gateway.api.admin import (
    audit,
    batches,
    history,
    keys,
    logs,
    models,
    requests,
    status,
    tasks,
)
from gateway.api.admin.configuration import entries
from gateway.api.admin.guard import require_admin

router = APIRouter(
    prefix="/api/v1/admin", tags=["administration"], dependencies=[Depends(require_admin)]
)
for part in (status, history, models, entries, audit, requests, batches, keys, logs, tasks):
    router.include_router(part.router)
