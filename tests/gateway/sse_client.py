"""Reads server-sent events as a browser would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

from contract.process.tasks import cancel_and_wait
from tests.waiting import until


class Event(NamedTuple):
    """One event, or a comment (`name` is then `:`)."""

    name: str
    data: str
    id: str | None = None

    @property
    def number(self) -> int | None:
        """Its place in the answer."""
        return int(self.id.partition("-")[0]) if self.id else None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


async def events_of(response: httpx.Response) -> AsyncIterator[Event]:
    """Yield the events of an answer, as they come."""
    rest = b""
    async for part in response.aiter_bytes():
        rest += part
        while b"\n\n" in rest:
            block, rest = rest.split(b"\n\n", 1)
            while block.startswith(b":") and b"\n" in block:
                comment, block = block.split(b"\n", 1)
                yield _event(comment)
            yield _event(block)
    assert not rest, rest


def _event(block: bytes) -> Event:
    fields: dict[str, str] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        fields[name or ":"] = value.removeprefix(" ")
    if ":" in fields:
        return Event(":", fields[":"])
    return Event(fields.get("event", ""), fields["data"], fields.get("id"))


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Event]]]:
    """An answer that is being read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("POST", path, json=body, headers=named) as response:
        yield response, events_of(response)


async def collect(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str
) -> list[Event]:
    """Return all events of an answer."""
    async with streaming(client, path, body, **headers) as (response, events):
        assert response.status_code == 200, await response.aread()
        return [event async for event in events]


def texts_of(events: list[Event]) -> str:
    """Return the text of an answer of ew's own API."""
    return "".join(event.json["text"] for event in events if event.name == "")


class Answer:
    """An answer of which the client reads all that comes, while the test goes on."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        #: Ends with the answer, or with what is wrong with it.
        self.task: asyncio.Task[None]

    async def has(self, text: str) -> None:
        """Return once the client has the text: from then on the answer is under way for sure.
        (What a worker has only written to Redis may still be on its way when a test breaks it.)"""
        await until(lambda: text in texts_of(self.events) or self.task.done())
        if text not in texts_of(self.events):
            await self.task
            raise AssertionError(f"it ended without {text!r}: {self.events}")

    async def whole(self, timeout_s: float = 20) -> list[Event]:
        """Return all its events, once it has ended."""
        await asyncio.wait_for(self.task, timeout_s)
        return self.events


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str
) -> AsyncIterator[Answer]:
    """An answer that is read in the background, and given up with the block."""
    answer = Answer()

    async def read() -> None:
        async with streaming(client, path, body, **headers) as (response, events):
            assert response.status_code == 200, await response.aread()
            async for event in events:
                answer.events.append(event)

    answer.task = asyncio.create_task(read())
    try:
        yield answer
    finally:
        await cancel_and_wait([answer.task])


async def have(answers: list[Answer], text: str) -> None:
    """Return once the client has the text of each of these answers."""
    for answer in answers:
        await answer.has(text)
