"""Images, sound and video as request bodies have them: in base64, or at a URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final

from pydantic_core import PydanticCustomError

from contract.asked import Media, MediaKind

_DATA: Final = "data:"
_OF_THE_WEB: Final = ("https://", "http://")
#: Names of formats that are no media types, as OpenAI's `input_audio` has them.
_UNKNOWN: Final = "application/octet-stream"


def medium_at(kind: MediaKind, url: Any) -> Media:
    """Return what is at a URL: `data:`, or one of the web, which is not fetched yet. Raises
    `PydanticCustomError`."""
    if not isinstance(url, str) or not url:
        raise PydanticCustomError("no_url", "needs a `url`")
    if url.startswith(_OF_THE_WEB):
        return Media(kind, 0, url=url)
    if not url.startswith(_DATA):
        message = "the URL of {kind} must begin with data:, https:// or http://"
        raise PydanticCustomError("bad_url", message, {"kind": kind})
    head, _, encoded = url.removeprefix(_DATA).partition(",")
    type_, *parameters = head.split(";")
    if "base64" not in parameters:
        raise PydanticCustomError("bad_url", "a data URL must be in base64: data:TYPE;base64,...")
    return medium_of(kind, encoded, type_)


def medium_of(kind: MediaKind, encoded: Any, type_: str = "") -> Media:
    """Return what is given in base64. Raises `PydanticCustomError`."""
    if not isinstance(encoded, str) or not encoded:
        raise PydanticCustomError("no_data", "needs its data in base64")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        data = _decoded_lines(kind, encoded)
    return Media(kind, 0, type_ or _UNKNOWN, hashlib.sha256(data).hexdigest(), len(data), data)


def _decoded_lines(kind: MediaKind, encoded: str) -> bytes:
    """Some encoders break lines."""
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        message = "the data of {kind} is not valid base64"
        raise PydanticCustomError("not_base64", message, {"kind": kind}) from None
