"""The console: a page for operators, and the session in which it speaks to the API."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from contract.asked import PriorityClass
from contract.keys import KeyRecord
from contract.release import release
from gateway.api.fields import StrictBody, parse
from gateway.http.auth import CONSOLE
from gateway.http.body import read_body
from gateway.http.errors import ApiError
from gateway.http.headers import header
from gateway.http.sessions import ended_cookie, session_cookie
from gateway.lifecycle.process import process_of

router = APIRouter(include_in_schema=False)
_FOLDER: Final = Path(__file__).parent / "console_page"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    # Asked for again each time, and not sent again while it is the same.
    "cache-control": "no-cache",
}
_MOST_BODY_BYTES: Final = 1024


class SignIn(StrictBody):
    """A key that is entered in the page."""

    key: str


class SessionBody(BaseModel):
    """Whose session it is, and what it opens."""

    key_id: str
    name: str
    admin: bool
    priority: PriorityClass
    release: str


@router.get("/")
@router.get(f"{CONSOLE}/")
async def root() -> Response:
    return Response(status_code=307, headers={"location": CONSOLE})


@router.get(CONSOLE)
def page(request: Request) -> Response:
    return _file(request, "index.html")


@router.get(f"{CONSOLE}/session")
async def get_session(request: Request) -> SessionBody:
    """Raises `ApiError` if there is none."""
    record = process_of(request).authenticator.signed_in(request.scope)
    if record is None:
        raise ApiError("missing_api_key", "sign in with an API key")
    return _session(record)


@router.post(f"{CONSOLE}/session")
async def sign_in(request: Request, response: Response) -> SessionBody:
    asked = parse(SignIn, await read_body(request, _MOST_BODY_BYTES))
    record = process_of(request).authenticator.sign_in(request.scope, asked.key.strip())
    response.headers["set-cookie"] = session_cookie(record, is_secure=_is_secure(request))
    return _session(record)


@router.delete(f"{CONSOLE}/session", status_code=204)
async def sign_out(request: Request) -> Response:
    cookie = ended_cookie(is_secure=_is_secure(request))
    return Response(status_code=204, headers={"set-cookie": cookie})


@router.get(f"{CONSOLE}/{{name:path}}")
def console_file(request: Request, name: str) -> Response:
    """One of the files of the page. Raises `ApiError`."""
    return _file(request, name)


def _session(record: KeyRecord) -> SessionBody:
    return SessionBody(
        key_id=record.id,
        name=record.name,
        admin=record.admin,
        priority=record.priority,
        release=release(),
    )


def _is_secure(request: Request) -> bool:
    """Whether the browser came by TLS, as far as a proxy says so. Who lies harms only himself."""
    told = header(request.scope["headers"], b"x-forwarded-proto") or b""
    return request.scope["scheme"] == "https" or told == b"https"


def _file(request: Request, name: str) -> Response:
    if name not in _files():
        raise ApiError("not_found", f"nothing is at {CONSOLE}/{name}")
    path = _FOLDER / name
    status = path.stat()
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {**_HEADERS, "etag": tag}
    if header(request.scope["headers"], b"if-none-match") == tag.encode():
        return Response(status_code=304, headers=headers)
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)


@cache
def _files() -> frozenset[str]:
    """Return the names of what is served, as they are below the folder."""
    found = (path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return frozenset(path.relative_to(_FOLDER).as_posix() for path in found)
