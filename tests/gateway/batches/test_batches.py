"""Batches of requests, with the official client, over the deaths of what runs them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from contract.keys import make_key
from contract.limits import KeyLimits
from tests.conftest import ValkeyServer
from tests.gateway.batches.mock_worker import MockWorker
from tests.gateway.conftest import Gateway
from tests.redis_proxy import RedisProxy
from tests.waiting import until

CHAT = "/v1/chat/completions"


def lines_of(count: int, words: str = "hi", model: str = "m", **more: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": words}], **more}
    line = {"method": "POST", "url": CHAT, "body": body}
    return b"".join(
        json.dumps({"custom_id": f"r{number}", **line}).encode() + b"\n" for number in range(count)
    )


async def begin(client: openai.AsyncOpenAI, content: bytes, **more: Any) -> Any:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    options = {"endpoint": CHAT, "completion_window": "24h", **more}
    return await client.batches.create(input_file_id=file.id, **options)


async def ended(client: openai.AsyncOpenAI, batch_id: str, within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        try:
            batch = await client.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
        except openai.APIConnectionError:
            batch = None
        assert time.monotonic() < deadline, batch
        await asyncio.sleep(0.1)


async def progress(client: openai.AsyncOpenAI, batch_id: str, least: int) -> int:
    """Return how many lines are answered, once so many are, while the batch runs."""
    for _ in range(3_000):
        found = await client.batches.retrieve(batch_id)
        if found.request_counts.completed >= least:
            assert found.status == "in_progress", found
            return int(found.request_counts.completed)
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def content(client: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    found = await client.files.content(file_id)
    return [json.loads(line) for line in found.text.splitlines()]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Gateway]:
    """A gateway with a mock worker of its model."""
    models = {"batched": {"engine": "mock", "model_path": "none"}}
    config = {"models": models, "gateway": {"processes": 1}}
    gateway = Gateway(tmp_path_factory.mktemp("batches"), redis_url, config)
    gateway.start()
    worker = MockWorker(tmp_path_factory.mktemp("worker"), redis_url, "batched")
    worker.start()
    gateway.wait_until(gateway.answers_ready, 60)
    yield gateway
    worker.kill()
    assert gateway.stop() == 0, gateway.log.read_text()


@pytest.fixture
async def client(host: Gateway) -> Any:
    async with client_of(host) as connected:
        yield connected


def client_of(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key.text, max_retries=0, timeout=30
    )


async def test_the_clients_example_runs(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "batchinput.jsonl"
    good, bad = lines_of(3, model="batched", max_tokens=3), lines_of(2, model="nothing")
    path.write_bytes(good + bad.replace(b'"r0"', b'"bad0"').replace(b'"r1"', b'"bad1"'))
    with path.open("rb") as file:
        uploaded = await client.files.create(file=file, purpose="batch")
    assert (uploaded.filename, uploaded.bytes) == (path.name, path.stat().st_size)
    batch = await client.batches.create(
        input_file_id=uploaded.id,
        endpoint=CHAT,
        completion_window="24h",
        metadata={"description": "nightly eval job"},
    )
    done = await ended(client, batch.id)
    assert done.status == "completed", done
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 3, 2)
    assert done.metadata == {"description": "nightly eval job"}
    assert (done.model, done.usage.output_tokens, done.usage.total_tokens) == ("batched", 9, 12)
    answers = await content(client, done.output_file_id)
    assert sorted(each["custom_id"] for each in answers) == ["r0", "r1", "r2"]
    for each in answers:
        assert (each["response"]["status_code"], each["error"]) == (200, None)
        assert each["response"]["body"]["choices"][0]["message"]["content"] == "0 1 2 "
    errors = await content(client, done.error_file_id)
    assert [each["response"]["status_code"] for each in errors] == [404, 404]
    assert errors[0]["response"]["body"]["error"]["code"] == "model_not_found"
    listed = [each.id async for each in client.batches.list(limit=1)]
    assert batch.id in listed
    kept = [each.id async for each in client.files.list(purpose="batch_output")]
    assert {done.output_file_id, done.error_file_id} <= {*kept}
    await client.files.delete(uploaded.id)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(uploaded.id)


async def test_responses_are_answered_in_the_output_alone(client: openai.AsyncOpenAI) -> None:
    url, named = "/v1/responses", {"model": "batched", "max_output_tokens": 3}
    bodies = [
        {**named, "input": "hi"},
        {**named, "input": [{"role": "user", "content": "hi"}], "store": True},
        {**named, "input": "hi", "background": True},
        {**named, "input": "hi", "previous_response_id": "resp_1"},
        {**named, "input": "hi", "stream": True},
    ]
    lines = [
        json.dumps({"custom_id": f"r{n}", "method": "POST", "url": url, "body": body})
        for n, body in enumerate(bodies)
    ]
    batch = await begin(client, "\n".join(lines).encode(), endpoint=url)
    done = await ended(client, batch.id)
    answers = await content(client, done.output_file_id)
    assert sorted(each["custom_id"] for each in answers) == ["r0", "r1"]
    for each in answers:
        answer = openai.types.responses.Response.model_validate(each["response"]["body"])
        assert (answer.status, answer.output_text) == ("incomplete", "0 1 2 ")
        assert each["response"]["body"]["store"] is False
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
    errors = await content(client, done.error_file_id)
    told = {each["custom_id"]: each["response"]["body"]["error"]["message"] for each in errors}
    assert {*told} == {"r2", "r3", "r4"}
    assert "background" in told["r2"]
    assert "previous_response_id" in told["r3"]
    assert (done.model, done.usage.output_tokens, done.usage.input_tokens) == ("batched", 6, 2)


@pytest.mark.parametrize(
    ("url", "body", "part"),
    [
        ("/v1/embeddings", {"input": ["a", "b"]}, "data"),
        ("/v1/rerank", {"query": "a", "documents": ["a", "b"]}, "results"),
        ("/v1/score", {"queries": "a", "documents": ["a", "b"]}, "data"),
        ("/v1/classify", {"input": ["a", "b"]}, "data"),
    ],
)
async def test_pooling_models_are_asked_in_batches(
    client: openai.AsyncOpenAI, url: str, body: dict[str, Any], part: str
) -> None:
    line = {"custom_id": "r", "method": "POST", "url": url, "body": {"model": "batched", **body}}
    batch = await begin(client, json.dumps(line).encode(), endpoint=url)
    done = await ended(client, batch.id)
    (answer,) = await content(client, done.output_file_id)
    assert len(answer["response"]["body"][part]) == 2
    assert done.usage.output_tokens == 0


async def test_lines_wait_for_room_in_the_limits_of_their_key(host: Gateway) -> None:
    limited = make_key("limited", limits=KeyLimits(open_requests=1))
    host.write_keys(host.key, limited)
    lines = lines_of(6, model="batched", max_tokens=3)
    async with client_of(host).with_options(api_key=limited.text) as client:
        batch = await begin(client, lines)
        done = await ended(client, batch.id)
    host.write_keys(host.key)
    counts = done.request_counts
    assert (done.status, counts.completed, counts.failed) == ("completed", 6, 0)


async def test_a_wrong_input_fails_with_its_lines(client: openai.AsyncOpenAI) -> None:
    line = json.loads(lines_of(1, model="batched"))
    wrong = [
        b"{",
        json.dumps({**line, "method": "GET"}).encode(),
        json.dumps({**line, "url": "/v1/embeddings"}).encode(),
        json.dumps({**line, "custom_id": ""}).encode(),
        json.dumps(line).encode(),
        b"",
        json.dumps(line).encode(),
    ]
    failed = await ended(client, (await begin(client, b"\n".join(wrong))).id)
    assert failed.status == "failed"
    assert [(each.line, each.code) for each in failed.errors.data] == [
        (1, "invalid_json_line"),
        (2, "invalid_method"),
        (3, "mismatched_endpoint"),
        (4, "invalid_custom_id"),
        (7, "duplicate_custom_id"),
    ]
    empty = await ended(client, (await begin(client, b"\n")).id)
    assert [each.code for each in empty.errors.data] == ["empty_file"]
    with pytest.raises(openai.BadRequestError, match="completion_window"):
        await begin(client, b"\n", completion_window="never")
    with pytest.raises(openai.BadRequestError, match="endpoint"):
        await begin(client, b"\n", endpoint="/v1/moderations")


async def test_a_cancelled_batch_keeps_what_was_answered(client: openai.AsyncOpenAI) -> None:
    slow = lines_of(400, words="[[first_token_delay_s=1]]", model="batched", max_tokens=1)
    batch = await begin(
        client, lines_of(1, model="batched", max_tokens=1).replace(b"r0", b"x") + slow
    )
    await progress(client, batch.id, 1)
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    done = await ended(client, batch.id)
    assert done.status == "cancelled"
    answers = await content(client, done.output_file_id)
    errors = await content(client, done.error_file_id)
    assert "x" in [each["custom_id"] for each in answers]
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    ids = Counter(each["custom_id"] for each in answers + errors)
    assert (len(ids), max(ids.values())) == (401, 1)
    with pytest.raises(openai.BadRequestError, match="already"):
        await client.batches.cancel(batch.id)


async def test_a_batch_ends_when_its_time_is_up(client: openai.AsyncOpenAI) -> None:
    slow = lines_of(3, words="[[first_token_delay_s=60]]", model="batched", max_tokens=1)
    done = await ended(client, (await begin(client, slow, completion_window="2s")).id)
    assert (done.status, done.output_file_id) == ("expired", None)
    errors = await content(client, done.error_file_id)
    assert [each["error"]["code"] for each in errors] == ["batch_expired"] * 3


async def test_lines_that_wait_for_a_model_fail_once_it_is_removed(
    host: Gateway, client: openai.AsyncOpenAI
) -> None:
    """Else they would wait for it until the batch's time is up."""
    before = host.config["models"]
    host.config["models"] = {**before, "gone": {"engine": "mock", "model_path": "none"}}
    host.write_config()

    async def is_known() -> bool:
        return "gone" in {model.id async for model in client.models.list()}

    await until(is_known)
    batch = await begin(client, lines_of(3, model="gone"))
    await until(lambda: host.log.read_text().count("again in 0.5 s: model_not_started") >= 3)
    assert (await client.batches.retrieve(batch.id)).request_counts.failed == 0
    host.config["models"] = before
    host.write_config()
    done = await ended(client, batch.id, 20)
    assert (done.status, done.request_counts.failed) == ("completed", 3)
    for line in await content(client, done.error_file_id):
        assert line["response"]["status_code"] == 404
        assert line["response"]["body"]["error"]["message"] == "there is no model `gone`"


async def test_files_are_their_keys_own_and_bounded(
    host: Gateway, client: openai.AsyncOpenAI
) -> None:
    other = make_key("other")
    host.write_keys(host.key, other)
    batch = await begin(client, lines_of(1, model="batched", max_tokens=1))
    theirs = client.with_options(api_key=other.text)
    for refused in (
        theirs.files.retrieve(batch.input_file_id),
        theirs.files.content(batch.input_file_id),
        theirs.files.delete(batch.input_file_id),
        theirs.batches.retrieve(batch.id),
        theirs.batches.cancel(batch.id),
        client.files.retrieve("../keys"),
        client.batches.retrieve("batch_" + "0" * 24),
    ):
        with pytest.raises(openai.NotFoundError):
            await refused
    assert (await theirs.files.list()).data == []
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=b"x", purpose="vision")
    assert not list((host.directory / "files").glob("*.part"))


@pytest.mark.parametrize("boundary", ["x" * 300, "a b", ""])
async def test_a_form_that_cannot_be_parsed_is_refused(host: Gateway, boundary: str) -> None:
    headers = {
        "authorization": f"Bearer {host.key.text}",
        "content-type": f'multipart/form-data; boundary="{boundary}"',
    }
    async with httpx.AsyncClient(base_url=host.url, headers=headers) as client:
        refused = await client.post("/v1/files", content=b"--x\r\n\r\n")
    assert refused.status_code == 400, refused.text


async def test_what_was_answered_is_kept_when_the_input_goes(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    worker = MockWorker(tmp_path, own_valkey.url, "m")
    worker.start()
    gateway = new_gateway(own_valkey.url)
    try:
        async with client_of(gateway) as client:
            slow = lines_of(400, words="[[first_token_delay_s=1]]", max_tokens=1)
            batch = await begin(client, lines_of(1, max_tokens=1).replace(b"r0", b"x") + slow)
            await progress(client, batch.id, 1)
            gateway.kill()
            (gateway.directory / "files" / f"{batch.input_file_id}.data").unlink()
            gateway.start()
            done = await ended(client, batch.id)
            assert (done.status, done.errors.data[0].code) == ("failed", "file_not_found")
            answers = await content(client, done.output_file_id)
            assert "x" in [each["custom_id"] for each in answers]
    finally:
        worker.kill()


async def test_a_list_is_read_page_by_page(host: Gateway, client: openai.AsyncOpenAI) -> None:
    reader = make_key("reader")
    host.write_keys(host.key, reader)
    own = client.with_options(api_key=reader.text)
    made = [(await own.files.create(file=b"{}", purpose="batch")).id for _ in range(3)]
    page = await own.files.list(limit=2, order="asc")
    ids = [each.id for each in page.data]
    told = page.model_dump()
    assert (told["first_id"], told["last_id"], page.has_more) == (ids[0], ids[1], True)
    last = await page.get_next_page()
    assert ({*ids, *(each.id for each in last.data)}, last.has_more) == ({*made}, False)
    nothing = await own.files.list(after="file-unknown")
    assert (nothing.data, nothing.model_dump()["last_id"]) == ([], None)


async def test_lines_that_could_not_be_put_for_a_while_are_answered(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Their first replies are still open, as their jobs might have been put."""
    worker = MockWorker(tmp_path, own_valkey.url, "m")
    worker.start()
    try:
        async with RedisProxy(str(own_valkey.socket)) as proxy:
            constants = {"gateway.jobs.patient_link.PATIENCE_S": 1.0}
            gateway = await asyncio.to_thread(new_gateway, proxy.url, constants=constants)
            await asyncio.to_thread(gateway.wait_until, gateway.answers_ready, 60)
            async with client_of(gateway) as client:
                proxy.reset()
                batch = await begin(client, lines_of(4, max_tokens=3))
                await asyncio.to_thread(
                    gateway.wait_until, lambda: "again in" in gateway.log.read_text(), 30
                )
                proxy.heal()
                done = await ended(client, batch.id)
                assert (done.status, done.request_counts.completed) == ("completed", 4)
    finally:
        worker.kill()


async def test_every_line_is_answered_once_over_the_death_of_every_process(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    # So many that it is under way at each kill.
    lines = 3_000
    gateway = new_gateway(own_valkey.url, jobs={"keep_s": 3600})
    worker = MockWorker(tmp_path, own_valkey.url, "m")
    worker.start()
    try:
        gateway.wait_until(gateway.answers_ready, 60)
        async with client_of(gateway) as client:
            batch = await begin(client, lines_of(lines, max_tokens=3))

            before = await progress(client, batch.id, 1)
            gateway.kill()
            gateway.start()
            before = await progress(client, batch.id, before + 100)
            worker.kill()
            worker.start()
            before = await progress(client, batch.id, before + 100)
            own_valkey.kill()
            own_valkey.start()
            await progress(client, batch.id, before + 1)
            done = await ended(client, batch.id, 90)
            assert done.status == "completed"
            answers = await content(client, done.output_file_id)
            errors = await content(client, done.error_file_id)
            assert errors == []
            ids = Counter(each["custom_id"] for each in answers)
            assert (len(ids), max(ids.values())) == (lines, 1)
            texts = {
                each["response"]["body"]["choices"][0]["message"]["content"] for each in answers
            }
            assert texts == {"0 1 2 "}
    finally:
        worker.kill()
