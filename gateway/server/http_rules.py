"""Rules for the head of a request that the parser leaves to us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.http.errors import ApiError
from gateway.http.headers import Headers

MAX_HEAD_BYTES: Final = 16_384
MAX_HEADERS: Final = 64
#: More digits than any length that a body may have.
_LONGEST_LENGTH: Final = 19
_OFFERS: Final = (b"upgrade", b"http2-settings")


def head_too_large() -> ApiError:
    limits = f"{MAX_HEAD_BYTES} bytes or {MAX_HEADERS} fields"
    return ApiError("head_too_large", f"the head is larger than {limits}")


def problem_of(method: bytes, version: str, headers: Headers) -> ApiError | None:
    """Return why a request cannot be answered, whatever it asks for."""
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        return ApiError("bad_http", "a request has one `Host`")
    if b"content-length" in names:
        lengths = [value for name, value in headers if name == b"content-length"]
        if max(map(len, lengths)) > _LONGEST_LENGTH:
            return ApiError("bad_http", "`Content-Length` has too many digits")
    return ApiError("method_not_allowed", "this is no proxy") if method == b"CONNECT" else None


def without_offers(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    """Headers without what offers to go on in another protocol, as `curl --http2` does."""
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(each for each in options if each.lower() not in _OFFERS)
        if value and name not in _OFFERS:
            yield name, value
