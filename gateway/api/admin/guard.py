"""Who may use the administration API."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from contract.keys import KeyRecord
from contract.paths import COMMAND
from gateway.admin import audit
from gateway.http.auth import address_of
from gateway.http.errors import ApiError
from gateway.http.headers import context_of

_WHY: Final = "this is for keys with the scope `admin`"


async def require_admin(request: Request) -> None:
    """The dependency of every route of this API. Raises `ApiError`."""
    admin_key(request)


def admin_key(request: Request) -> KeyRecord:
    """Return the key of a request that may administer. Raises `ApiError`."""
    key = context_of(request.scope).key
    # A key that was declared for requests without one must not be reached by them.
    if key is None or not key.admin or key.anonymous:
        hint = f"`{COMMAND} keys add NAME --admin` makes one"
        raise ApiError("scope_missing", f"{_WHY}; {hint}")
    return key


def note_change(request: Request, change: str) -> None:
    """Write a change into the audit log before it is made. Raises `ApiError`."""
    audit.note(admin_key(request), address_of(request.scope), change)
