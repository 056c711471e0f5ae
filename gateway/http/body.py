"""Request bodies, read by hand: bounded before they are parsed."""

from __future__ import annotations

from starlette.requests import Request

from gateway.http.errors import ApiError
from gateway.http.headers import header


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises `ApiError` if it is too large or does not come.

    The server goes on to receive (and drop) what is too large, so that the client gets to read
    our answer.
    """
    declared = header(request.scope["headers"], b"content-length")
    if declared is not None and int(declared) > most_bytes:
        raise _too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ApiError("incomplete_body", "the body ended before its length")
        part = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise _too_large(most_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(most_bytes: int) -> ApiError:
    return ApiError("body_too_large", f"the body is larger than {most_bytes} bytes")
