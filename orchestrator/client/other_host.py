"""Another host, over the administration API of its gateway: `./ew --host URL`."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from contract.logs.line import LogLine
from contract.supervision.control import Load, Outcome, Pin, Unload
from contract.supervision.status import RunStatus
from orchestrator.client.gateway_client import Gateway, KeyRefused, Unavailable
from orchestrator.config.named_host import CA_VARIABLE
from orchestrator.errors import UserError
from orchestrator.system.gateway_tls import OWN_VARIABLE
from orchestrator.terminal.speech import say

KEY_VARIABLE: Final = "EW_API_KEY"
KEY_FILE_VARIABLE: Final = "EW_API_KEY_FILE"
_GIVE_ONE: Final = (
    f"there: `./ew keys add NAME --admin`; here: {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} with a file"
)
_Form = TypeVar("_Form")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class OtherHost:
    """The gateway at a URL, asked as an operator, or (`gateway`) as any client with its key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self.gateway = Gateway(url, key, _tls() if url.startswith("https:") else None)

    def status(self) -> RunStatus:
        """Return the status of that host. Raises `UserError`."""
        return self.read(self.ask("GET", "status"), RunStatus)

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
        answer = self.ask("POST", path, params={"wait": True}, timeout=None)
        return self.read(answer["outcomes"], list[Outcome])

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return the models' entries in its configuration file. Raises `UserError`."""
        answer = self.ask("GET", "config/models")["models"]
        return {model_id: entry["settings"] for model_id, entry in answer.items()}

    def log_units(self, names: list[str]) -> list[str]:
        """Return its logs with these names, or of models with them; all without a name. Raises
        `UserError` if there is none of a name."""
        present: list[str] = self.ask("GET", "logs/units")["units"]
        found: list[str] = []
        for name in names:
            of_name = [each for each in present if re.fullmatch(rf"{re.escape(name)}(-\d+)?", each)]
            if not of_name:
                known = ", ".join(f"`{each}`" for each in present) or "none"
                raise UserError(f"no log of `{name}` at {self._url}", f"there are {known}")
            found += of_name
        return found

    def last_lines(self, units: list[str], count: int) -> list[LogLine]:
        """Return the last lines of logs, of all without a unit. Raises `UserError`."""
        answer = self.ask("GET", "logs", params={"unit": units, "lines": count})
        return [_log_line(each) for each in answer["lines"]]

    def follow_lines(self, units: list[str], count: int) -> Generator[list[LogLine], None, None]:
        """Yield the last lines of logs, and then what is written, until the gateway ends it. Raises
        `UserError`."""
        path = "/api/v1/admin/logs/stream"
        for event in self.gateway.events(path, params={"unit": units, "lines": count}):
            yield [_log_line(each) for each in json.loads(event.data)["lines"]]

    def ask(self, method: str, path: str, **parts: Any) -> Any:
        """Return what the administration API answers. Raises `UserError`."""
        try:
            return self.gateway.ask(method, f"/api/v1/admin/{path}", **parts)
        except KeyRefused:
            message = f"{self._url} refuses the key: it is unknown there, expired or revoked"
            raise KeyRefused(message, _GIVE_ONE) from None
        except Unavailable as error:
            hint = f"does ew run at {self._url}?"
            if "CERTIFICATE_VERIFY_FAILED" in error.message:
                hint = f"`--ca FILE`, or {CA_VARIABLE}, names the authority that has issued it"
            raise Unavailable(error.message, hint) from None

    def read(self, answer: Any, form: type[_Form]) -> _Form:
        """Return an answer in its form. Raises `UserError`."""
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


def _log_line(told: dict[str, str]) -> LogLine:
    """Return a line that the API tells."""
    parts = (told["time"], told["level"], told["process"], told["message"])
    text = " ".join(part for part in parts if part) if told["time"] else told["message"]
    return LogLine(text=text, **told)  # type: ignore[arg-type]  # its fields may be null


def _tls() -> ssl.SSLContext:
    """Return what checks the certificate of a gateway. Raises `UserError`."""
    authorities, own = os.environ.get(CA_VARIABLE), os.environ.get(OWN_VARIABLE)
    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except OSError as error:
        message = f"{authorities} holds no certificates of authorities: {error.strerror or error}"
        raise UserError(message, f"`--ca` and {CA_VARIABLE} name a file in PEM") from None
    if own:
        try:
            context.load_cert_chain(own)
        except OSError as error:
            message = f"{OWN_VARIABLE} names {own}: {error.strerror or error}"
            raise UserError(message, "it is to hold a certificate and its key, in PEM") from None
    return context


def _key() -> str:
    if given := os.environ.get(KEY_VARIABLE):
        return given.strip()
    if not (file := os.environ.get(KEY_FILE_VARIABLE)):
        raise UserError("another host wants an operator's key", _GIVE_ONE)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{KEY_FILE_VARIABLE} names {file}: {error}", _GIVE_ONE) from None
