"""Request bodies, read by hand: bounded before they are parsed, also what gzip makes of them."""

from __future__ import annotations

import zlib
from typing import Final

from starlette.requests import Request

from gateway.http.errors import ApiError
from gateway.http.headers import header

#: The code of zlib for gzip's form with the largest window.
_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the whole body, decoded. Raises `ApiError` if it is too large, encoded in another way
    than by gzip, or does not come.

    The server goes on to receive (and drop) what is too large, so that the client gets to read our
    answer.
    """
    declared = header(request.scope["headers"], b"content-length")
    if declared is not None and int(declared) > most_bytes:
        raise _too_large(most_bytes)
    is_packed = _is_packed(header(request.scope["headers"], b"content-encoding"))
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
            body = b"".join(parts)
            return _unpacked(body, most_bytes) if is_packed else body


def _is_packed(encoding: bytes | None) -> bool:
    """Return whether a body is in gzip's form. Raises `ApiError` for any other but its own."""
    named = (encoding or b"").strip().lower()
    if named in (b"", b"identity"):
        return False
    if named in (b"gzip", b"x-gzip"):
        return True
    message = "send the body as it is, or in the content encoding gzip"
    raise ApiError("unsupported_encoding", message, headers={"accept-encoding": "gzip, identity"})


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    """No more is unpacked than may be, however small the body is. Raises `ApiError`."""
    decoder = zlib.decompressobj(_GZIP)
    try:
        unpacked = decoder.decompress(body, most_bytes + 1)
    except zlib.error:
        raise ApiError("bad_encoding", "the body is not in gzip's form") from None
    if len(unpacked) > most_bytes:
        raise _too_large(most_bytes)
    if not decoder.eof or decoder.unused_data:
        raise ApiError("bad_encoding", "the body is not one whole in gzip's form")
    return unpacked


def _too_large(most_bytes: int) -> ApiError:
    return ApiError("body_too_large", f"the body is larger than {most_bytes} bytes")
