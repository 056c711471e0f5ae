"""Responses that are kept: asked for again, gone on after, in the background, cancelled; and never
shown to another key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from contract.bus.claims import Ended
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.replies import reply_key
from contract.keys import make_key
from contract.messages import Delta, Done, ReasoningDelta, ToolCallDelta
from tests.conftest import ValkeyServer
from tests.gateway.api.agents import ONE
from tests.gateway.api.responses.test_responses import ANSWER, ORDER, OUTPUT, TOOLS, shown
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import Event, events_of

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PATH = "/v1/responses"


async def read(client: httpx.AsyncClient, path: str) -> list[Event]:
    """The events at a path."""
    async with client.stream("GET", path) as response:
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response) if event.name != ":"]


async def ended(client: openai.AsyncOpenAI, response_id: str) -> Response:
    """A response once it has ended."""
    deadline = time.monotonic() + 20
    while True:
        found = await client.responses.retrieve(response_id)
        if found.status not in ("queued", "in_progress"):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_client_was_told_of_can_be_asked_for_at_once(
    openai_client: openai.AsyncOpenAI,
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    model: str,
    stream: bool,
) -> None:
    body = {"model": model, "input": "hi", "tools": TOOLS, "stream": stream}
    told = await worker.answered(client.post(PATH, json=body), *ANSWER)
    if stream:
        events = [line[6:] for line in told.text.splitlines() if line.startswith("data: ")]
        whole = json.loads(events[-1])["response"]
    else:
        whole = told.json()
    kept = await client.get(f"{PATH}/{whole['id']}")
    assert kept.json() == {**whole, "completed_at": kept.json()["completed_at"]}
    assert shown(await openai_client.responses.retrieve(whole["id"])) == OUTPUT
    again = await read(client, f"{PATH}/{whole['id']}?stream=true")
    assert [event.name for event in again] == ORDER
    for event in again:
        EVENT.validate_python(event.json, strict=True)
    rest = await read(client, f"{PATH}/{whole['id']}?stream=true&starting_after=11")
    assert [event.data for event in rest] == [event.data for event in again[12:]]
    assert (await client.delete(f"{PATH}/{whole['id']}")).json()["deleted"]
    with pytest.raises(openai.NotFoundError):
        await openai_client.responses.retrieve(whole["id"])


async def test_a_response_goes_on_after_another_with_all_that_came_before(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asked: dict[str, Any] = {"model": model, "tools": TOOLS}
    first = await worker.answered(
        openai_client.responses.create(input="one", instructions="be", **asked),
        ReasoningDelta("hm", ONE),
        ToolCallDelta("{}", ONE, 0, None, 0, "call_a", "weather"),
        Done(("tool_calls",), 5, 2),
    )
    returned: Any = [{"type": "function_call_output", "call_id": "call_a", "output": "rain"}]
    second = await worker.answered(
        openai_client.responses.create(input=returned, previous_response_id=first.id, **asked),
        Delta("It rains.", ONE),
        Done(("stop",), 5, 2),
    )
    assert second.previous_response_id == first.id
    asking = openai_client.responses.create(input="thanks", previous_response_id=second.id, **asked)
    job, third = await worker.job_of(asking)
    messages = job.messages
    assert messages is not None
    assert [(each.role, each.content) for each in messages] == [
        ("user", "one"),
        ("assistant", ""),
        ("tool", "rain"),
        ("assistant", "It rains."),
        ("user", "thanks"),
    ]
    assert (messages[1].reasoning, messages[1].tool_calls[0].name) == ("hm", "weather")
    # Only what a response was asked itself is listed of it.
    items = await openai_client.responses.input_items.list(third.id)
    assert [item.content[0].text for item in items.data] == ["thanks"]  # type: ignore[union-attr]
    (item,) = (await openai_client.responses.input_items.list(second.id)).data
    assert (item.type, item.output) == ("function_call_output", "rain")  # type: ignore[union-attr]


async def test_items_are_listed_in_pages_as_the_official_client_has_them(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    said = [{"role": "user", "content": str(number)} for number in range(5)]
    body = {"model": model, "input": said}
    whole = (await worker.answered(client.post(PATH, json=body), Done(("stop",), 5, 0))).json()
    path = f"{PATH}/{whole['id']}/input_items"
    page = (await client.get(f"{path}?limit=2&order=asc")).json()
    ResponseItemList.model_validate(page, strict=True)
    assert [item["content"][0]["text"] for item in page["data"]] == ["0", "1"]
    assert page["has_more"]
    page = (await client.get(f"{path}?limit=9&order=asc&after={page['last_id']}")).json()
    assert [item["content"][0]["text"] for item in page["data"]] == ["2", "3", "4"]
    assert not page["has_more"]
    newest = (await client.get(path)).json()["data"]
    assert [item["content"][0]["text"] for item in newest] == ["4", "3", "2", "1", "0"]


async def test_a_response_in_the_background_goes_on_without_its_client(
    openai_client: openai.AsyncOpenAI, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    begun = await openai_client.responses.create(
        model=model, input="hi", tools=TOOLS, background=True
    )
    assert begun.status == "queued"
    assert (begun.output, begun.background) == ([], True)
    attempt = await worker.start()
    assert (await openai_client.responses.retrieve(begun.id)).status == "in_progress"
    await worker.say(attempt, *ANSWER[:4])
    reading = asyncio.ensure_future(read(client, f"{PATH}/{begun.id}?stream=true"))
    await asyncio.sleep(0)
    await worker.say(attempt, *ANSWER[4:])
    await worker.queue.complete(worker.name, [Ended(attempt, "done")])
    events = await reading
    assert [event.name for event in events] == ORDER
    assert [event.json["sequence_number"] for event in events] == list(range(len(ORDER)))
    final = await ended(openai_client, begun.id)
    assert (final.status, shown(final)) == ("completed", OUTPUT)
    assert final.created_at == begun.created_at
    kept = await read(client, f"{PATH}/{begun.id}?stream=true&starting_after=20")
    names = [event.name for event in events[21:]]
    assert [event.name for event in kept] == names
    # A response that has ended cannot be cancelled, and stays as it is.
    assert (await openai_client.responses.cancel(begun.id)).status == "completed"


async def test_a_stream_in_the_background_that_breaks_is_read_on_by_its_numbers(
    openai_client: openai.AsyncOpenAI, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    async def first_pieces() -> tuple[str, int]:
        response_id = ""
        stream = await openai_client.responses.create(
            model=model, input="hi", tools=TOOLS, background=True, stream=True
        )
        async for event in stream:
            if event.type == "response.created":
                response_id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        return response_id, event.sequence_number

    asking = asyncio.ensure_future(first_pieces())
    attempt = await worker.start()
    await worker.say(attempt, *ANSWER[:4])
    response_id, last = await asking
    await worker.say(attempt, *ANSWER[4:])
    await worker.queue.complete(worker.name, [Ended(attempt, "done")])
    rest = await read(client, f"{PATH}/{response_id}?stream=true&starting_after={last}")
    assert [event.name for event in rest] == ORDER[last + 1 :]
    assert not worker.cancelled


async def test_a_response_in_the_background_is_cancelled(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    begun = await openai_client.responses.create(model=model, input="hi", background=True)
    attempt = await worker.start()
    assert (await openai_client.responses.cancel(begun.id)).status == "cancelled"
    await worker.wait_for_cancellation(attempt.job.id, 5)
    assert (await openai_client.responses.retrieve(begun.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="no answer to go on after"):
        await openai_client.responses.create(model=model, input="x", previous_response_id=begun.id)


async def test_only_what_is_to_be_kept_is_kept_and_only_for_its_key(
    openai_client: openai.AsyncOpenAI,
    gateway: Gateway,
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    model: str,
) -> None:
    asked: Any = {"model": model, "input": "hi"}
    said = (Delta("a", ONE), Done(("stop",), 5, 1))
    free = await worker.answered(openai_client.responses.create(store=False, **asked), *said)
    for path in (free.id, "resp_none", "job_none"):
        gone = await client.get(f"{PATH}/{path}")
        assert (gone.status_code, f"Response with id '{path}' not found." in gone.text) == (
            404,
            True,
        )
    with pytest.raises(openai.BadRequestError, match="not found") as refused:
        await openai_client.responses.create(previous_response_id=free.id, **asked)
    assert refused.value.param == "previous_response_id"
    kept = await worker.answered(openai_client.responses.create(**asked), *said)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await openai_client.responses.cancel(kept.id)
    other = make_key("other")
    gateway.write_keys(gateway.key, other)
    stranger = openai_client.with_options(api_key=other.text)
    with pytest.raises(openai.NotFoundError):
        await stranger.responses.retrieve(kept.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        await stranger.responses.create(previous_response_id=kept.id, **asked)
    assert (await openai_client.responses.retrieve(kept.id)).output_text == "a"


async def test_a_response_in_the_background_outlives_its_gateway(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway]
) -> None:
    """Another gateway keeps it, and numbers its events as the first one did."""
    first = new_gateway(own_valkey.url)
    other = new_gateway(own_valkey.url, key=first.key)

    def client_to(gateway: Gateway) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=first.key.text)

    async with ScriptedWorker(own_valkey.url, "m") as worker, client_to(first) as early:
        first.wait_until_ready()
        begun = await early.responses.create(model="m", input="hi", tools=TOOLS, background=True)
        attempt = await worker.start()
        await worker.say(attempt, *ANSWER[:4])
        first.kill()
        # As the supervisor does, once it has seen that the process is gone.
        name = attempt.reply.removeprefix(reply_key(""))
        await Heartbeats(worker.db, GATEWAYS).leave(name)
        await worker.say(attempt, *ANSWER[4:])
        await worker.queue.complete(worker.name, [Ended(attempt, "done")])
        async with client_to(other) as late:
            final = await ended(late, begun.id)
            assert (final.status, shown(final)) == ("completed", OUTPUT)
            stream = await late.responses.retrieve(begun.id, stream=True, starting_after=10)
            assert [event.type async for event in stream] == ORDER[11:]
