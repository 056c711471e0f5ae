"""Another host, over the administration API of its gateway: `./ew --host URL`."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from contract.supervision.control import Load, Outcome, Pin, Unload
from contract.supervision.status import RunStatus
from orchestrator.client.gateway_client import Gateway, KeyRefused, Unavailable
from orchestrator.errors import UserError
from orchestrator.terminal.speech import say

KEY_VARIABLE: Final = "EW_API_KEY"
KEY_FILE_VARIABLE: Final = "EW_API_KEY_FILE"
_GIVE_ONE: Final = (
    f"there: `./ew keys add NAME --admin`; here: {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} with a file"
)
_Form = TypeVar("_Form")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class OtherHost:
    """The gateway at a URL, asked as an operator."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        tls = ssl.create_default_context() if url.startswith("https:") else None
        self._gateway = Gateway(url, key, tls)

    def status(self) -> RunStatus:
        """Return the status of that host. Raises `UserError`."""
        return self._read(self._ask("GET", "status"), RunStatus)

    def change(self, request: Load | Unload | Pin) -> list[Outcome]:
        """Have a model changed, and return its outcomes when that is over, however long it takes.
        Raises `UserError`."""
        match request:
            case Pin(is_pinned=is_pinned):
                act = "pin" if is_pinned else "unpin"
            case Load():
                act = "load"
            case Unload():
                act = "unload"
        path = f"models/{quote(request.model)}/{act}"
        # How long a model loads is not known here.
        answer = self._ask("POST", path, params={"wait": True}, timeout=None)
        return self._read(answer["outcomes"], list[Outcome])

    def _ask(self, method: str, path: str, **parts: Any) -> Any:
        try:
            return self._gateway.ask(method, f"/api/v1/admin/{path}", **parts)
        except KeyRefused:
            message = f"{self._url} refuses the key: it is unknown there, expired or revoked"
            raise KeyRefused(message, _GIVE_ONE) from None
        except Unavailable as error:
            raise Unavailable(error.message, f"does ew run at {self._url}?") from None

    def _read(self, answer: Any, form: type[_Form]) -> _Form:
        try:
            return msgspec.convert(answer, form)
        except msgspec.ValidationError as error:
            message = f"{self._url} is of another version of ew: {error}"
            raise UserError(message, "update the older of both") from None


def other_host(url: str) -> OtherHost:
    """Return the host whose gateway is at a URL. Raises `UserError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"`{url}` is no URL of a gateway", "as in https://gpu1.example:8080")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        say(f"warning: the key goes to {parts.hostname} in the clear; https:// would hide it")
    return OtherHost(url, _key())


def _key() -> str:
    if given := os.environ.get(KEY_VARIABLE):
        return given.strip()
    if not (file := os.environ.get(KEY_FILE_VARIABLE)):
        raise UserError("another host wants an operator's key", _GIVE_ONE)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{KEY_FILE_VARIABLE} names {file}: {error}", _GIVE_ONE) from None
