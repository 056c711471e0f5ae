"""Asks the gateway over HTTP, as any client does."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import httpx

from orchestrator.errors import UserError

_SILENCE_S: Final = 120.0
_BROKEN_OFF: Final = "ask again; `./ew logs gateway` and the log of the model say more"


class KeyRefused(UserError):
    """The gateway does not know the key, or no longer."""


class NotThere(UserError):
    """The gateway has no such thing, or none that the key may see."""


class Unavailable(UserError):
    """The gateway cannot be reached, or cannot answer at the moment."""


class ServerSentEvent(NamedTuple):
    name: str
    data: str


class Gateway:
    """The gateway at a URL, asked with one API key."""

    def __init__(self, url: str, api_key: str | None, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._verify = tls or True
        self._headers = {} if api_key is None else {"X-API-Key": api_key}

    def stream(self, body: dict[str, Any]) -> Generator[str, None, None]:
        """Yield the text of an answer, piece by piece. Closing the generator cancels the job.

        Raises `UserError`, `KeyRefused`.
        """
        with self._answer("POST", "/api/v1/inference/stream", json=body) as answer:
            yield from _texts(read_events(answer.iter_lines()))

    def ask(self, method: str, path: str, **parts: Any) -> Any:
        """Return the JSON of an answer, None of one without a body. `parts` are what httpx calls
        them: a form with files in it is read from them as it is sent. Raises
        `UserError`, `KeyRefused`, `Unavailable`."""
        with self._answer(method, path, **parts) as answer:
            body = answer.read()
            return json.loads(body) if body else None

    def events(self, path: str, **parts: Any) -> Generator[ServerSentEvent, None, None]:
        """Yield the events of a stream, until it ends. Raises as `ask` does."""
        with self._answer("GET", path, **parts) as answer:
            yield from read_events(answer.iter_lines())

    def pieces(self, path: str) -> Generator[bytes, None, None]:
        """Yield the bytes of a file, piece by piece. Raises as `ask` does."""
        with self._answer("GET", path) as answer:
            yield from answer.iter_bytes()

    @contextmanager
    def _answer(self, method: str, path: str, **parts: Any) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(10.0, read=_SILENCE_S, write=_SILENCE_S)
        try:
            # Environment variables for proxies are not meant for the gateway beside us.
            with (
                httpx.Client(timeout=timeout, trust_env=False, verify=self._verify) as client,
                client.stream(
                    method, f"{self._url}{path}", headers=self._headers, **parts
                ) as answer,
            ):
                if not answer.is_success:
                    answer.read()
                    raise _refusal(answer)
                yield answer
        except httpx.HTTPError as error:
            hint = "`./ew status` shows what runs"
            raise Unavailable(f"the gateway at {self._url}: {error}", hint) from None


def read_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Server-sent events out of lines; comments are left out."""
    name, data = "", []
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not line and data:
            yield ServerSentEvent(name, "\n".join(data))
            name, data = "", []


def _texts(events: Iterable[ServerSentEvent]) -> Iterator[str]:
    for event in events:
        match event.name:
            case "":
                yield json.loads(event.data)["text"]
            case "error":
                raise UserError(f"the answer breaks off: {_message(event.data)}", _BROKEN_OFF)
            case "done":
                return
    why = "the answer breaks off: the gateway has closed the connection"
    raise UserError(why, _BROKEN_OFF)


def _refusal(answer: httpx.Response) -> UserError:
    kind: type[UserError] = UserError
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        kind = KeyRefused
    elif answer.status_code == httpx.codes.NOT_FOUND:
        kind = NotThere
    elif answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        kind = Unavailable
    return kind(f"the gateway says: {_message(answer.text)}")


def _message(body: str) -> str:
    """Return what an error body says, in whatever form it comes."""
    try:
        decoded = json.loads(body)
    except json.JSONDecodeError:
        return body[:200] or "no reason given"
    if isinstance(decoded, dict) and isinstance(decoded.get("error"), dict):
        decoded = decoded["error"]
    message = decoded.get("message") if isinstance(decoded, dict) else None
    return str(message or body[:200])
