"""Asks the gateway over HTTP, as any client does, and yields the answer as it comes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple

import httpx

from orchestrator.errors import UserError

_SILENCE_S: Final = 120.0


class KeyRefused(UserError):
    """The gateway does not know the key, or no longer."""


class ServerSentEvent(NamedTuple):
    name: str
    data: str


class Gateway:
    """The gateway at a URL, asked with one API key."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._api_key = api_key

    def stream(self, body: dict[str, Any]) -> Generator[str, None, None]:
        """Yield the text of an answer, piece by piece. Closing the generator cancels the job.

        Raises `UserError`, `KeyRefused`.
        """
        try:
            yield from self._stream(body)
        except httpx.HTTPError as error:
            hint = "`./ew status` shows what runs"
            raise UserError(f"the gateway at {self._url}: {error}", hint) from None

    def _stream(self, body: dict[str, Any]) -> Iterator[str]:
        timeout = httpx.Timeout(10.0, read=_SILENCE_S)
        # Environment variables for proxies are not meant for the gateway beside us.
        with (
            httpx.Client(timeout=timeout, trust_env=False) as client,
            client.stream(
                "POST",
                f"{self._url}/api/v1/inference/stream",
                json=body,
                headers={"X-API-Key": self._api_key},
            ) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                answer.read()
                kind = KeyRefused if answer.status_code == httpx.codes.UNAUTHORIZED else UserError
                raise kind(f"the gateway says: {_message(answer.text)}")
            yield from _texts(read_events(answer.iter_lines()))


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
                raise UserError(f"the answer breaks off: {_message(event.data)}")
            case "done":
                return
    raise UserError("the answer breaks off: the gateway has closed the connection")


def _message(body: str) -> str:
    """Return what an error body says, in whatever form it comes."""
    try:
        decoded = json.loads(body)
    except json.JSONDecodeError:
        return body[:200] or "no reason given"
    message = decoded.get("message") if isinstance(decoded, dict) else None
    return str(message or body[:200])
