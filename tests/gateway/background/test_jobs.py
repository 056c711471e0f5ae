"""Background jobs: taken, kept, read by many, cancelled, and never shown to another key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import AboutJob, JobOutcome, JobState
from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.replies import reply_key
from contract.keys import make_key
from contract.messages import Job, Sampling
from tests.conftest import ValkeyServer
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import Event, events_of

JOBS = "/api/v1/jobs"
ASK = {"modelId": "m", "prompt": "x"}


async def post(client: httpx.AsyncClient, ask: dict[str, Any], **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.post(JOBS, json=ask, headers=named)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{job['id']}"
    return job


async def ended(client: httpx.AsyncClient, job_id: str, within_s: float = 20) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        job: dict[str, Any] = (await client.get(f"{JOBS}/{job_id}")).json()
        if job["state"] not in ("queued", "running"):
            return job
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.05)


async def read(
    client: httpx.AsyncClient,
    job_id: str,
    last: int | None = None,
    begun: asyncio.Event | None = None,
) -> list[Event]:
    """Read the stream of a job to its end. `begun` is set at its first text."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found = []
    async with client.stream("GET", f"{JOBS}/{job_id}/stream", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        async for event in events_of(response):
            if event.name != ":":
                found.append(event)
            if event.name == "" and begun is not None:
                begun.set()
    return found


def text_of(events: list[Event]) -> str:
    return "".join(event.json["text"] for event in events if event.name == "")


async def test_a_job_goes_on_without_its_client_and_its_answer_is_kept(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    async with client_of(gateway) as client:
        job = await post(client, {"modelId": model, "prompt": "x"})
        assert job["state"] in ("queued", "running")
        assert (job["result"], job["error"], job["endedUnixS"]) == (None, None, None)
    attempt = await worker.start()
    async with client_of(gateway) as client:
        assert (await client.get(f"{JOBS}/{job['id']}")).json()["state"] == "running"
        await worker.delta(attempt, "a", "b")
        await worker.done(attempt)
        done = await ended(client, job["id"])
    assert done["state"] == "done"
    assert (done["result"]["text"], done["result"]["usage"]["completionTokens"]) == ("ab", 2)
    assert done["attempts"] == 1
    assert done["createdUnixS"] <= done["startedUnixS"] <= done["endedUnixS"]
    assert done["expiresUnixS"] - done["endedUnixS"] == 86_400
    assert worker.attempts.empty()
    assert attempt.job.id not in worker.cancelled


async def test_a_request_for_an_answer_may_ask_for_a_job_instead(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x", "background": True}
    answer = await client.post("/api/v1/inference", json=ask)
    assert answer.status_code == 202
    await worker.answer("a")
    assert (await ended(client, answer.json()["id"]))["result"]["text"] == "a"
    streamed = await client.post("/api/v1/inference/stream", json=ask)
    assert (streamed.status_code, streamed.json()["field"]) == (422, "background")


async def test_many_read_one_stream_while_it_comes_and_after(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    job = await post(client, {"modelId": model, "prompt": "x"})
    attempt = await worker.start()
    await worker.delta(attempt, "a", "b")
    begun = [asyncio.Event() for _ in range(6)]
    readers = [asyncio.create_task(read(client, job["id"], begun=each)) for each in begun[1:]]
    later = asyncio.create_task(read(client, job["id"], last=0, begun=begun[0]))
    await asyncio.gather(*(each.wait() for each in begun))
    await worker.delta(attempt, "c")
    await worker.done(attempt)
    for reader in readers:
        events = await reader
        assert (text_of(events), events[-1].name) == ("abc", "done")
    assert text_of(await later) == "bc"
    assert (await ended(client, job["id"]))["state"] == "done"
    kept = await read(client, job["id"])
    assert [(each.name, each.id) for each in kept] == [
        (each.name, each.id) for each in await readers[0]
    ]
    assert text_of(await read(client, job["id"], last=1)) == "c"
    assert text_of(await read(client, job["id"], last=3)) == ""


async def test_a_job_is_shown_to_its_key_alone(
    gateway: Gateway, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    lister, other = make_key("lister"), make_key("other")
    gateway.write_keys(gateway.key, lister, other)
    client.headers["X-API-Key"] = lister.text
    first, second = [await post(client, {"modelId": model, "prompt": each}) for each in "xy"]
    theirs = {"X-API-Key": other.text}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/stream")):
        url = f"{JOBS}/{first['id']}{path}"
        refused = await client.request(method, url, headers=theirs)
        assert (refused.status_code, refused.json()["code"]) == (404, "job_not_found")
    unknown = await client.get(f"{JOBS}/job_nothing")
    assert unknown.json()["message"] == refused.json()["message"]
    assert (await client.get(JOBS, headers=theirs)).json() == {"jobs": [], "nextAfter": None}
    page = (await client.get(JOBS, params={"limit": 1})).json()
    assert [each["id"] for each in page["jobs"]] == [second["id"]]
    rest = (await client.get(JOBS, params={"after": page["nextAfter"]})).json()
    assert ([each["id"] for each in rest["jobs"]], rest["nextAfter"]) == ([first["id"]], None)
    bad = await client.get(JOBS, params={"limit": 0})
    assert (bad.status_code, bad.json()["field"]) == (422, "limit")


async def test_a_cancelled_job_ends_for_its_worker_and_its_readers(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    job = await post(client, {"modelId": model, "prompt": "x"})
    attempt = await worker.start()
    await worker.delta(attempt, "a")
    begun = asyncio.Event()
    reader = asyncio.create_task(read(client, job["id"], begun=begun))
    await begun.wait()
    cancelled = await client.delete(f"{JOBS}/{job['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    await worker.wait_for_cancellation(attempt.job.id, 5)
    last = (await reader)[-1]
    assert (last.name, last.json["code"]) == ("error", "cancelled")
    again = await read(client, job["id"])
    assert [(each.name, each.json["code"]) for each in again] == [("error", "cancelled")]
    assert (await client.delete(f"{JOBS}/{job['id']}")).status_code == 204
    assert (await client.get(f"{JOBS}/{job['id']}")).status_code == 404


async def test_cancelling_never_forgets_an_answer(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    job = await post(client, {"modelId": model, "prompt": "x"})
    await worker.answer("a")
    await ended(client, job["id"])
    late = await client.post(f"{JOBS}/{job['id']}/cancel")
    assert (late.status_code, late.json()["code"]) == (400, "job_has_ended")
    assert (await client.get(f"{JOBS}/{job['id']}")).json()["result"]["text"] == "a"
    job = await post(client, {"modelId": model, "prompt": "x"})
    attempt = await worker.start()
    cancelled = await client.post(f"{JOBS}/{job['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    await worker.wait_for_cancellation(attempt.job.id, 5)


async def test_the_same_request_again_is_the_same_job(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    jobs = [await post(client, ask, idempotency_key="k-job") for _ in range(3)]
    await worker.answer("a")
    assert len({each["id"] for each in jobs}) == 1
    assert (await ended(client, jobs[0]["id"]))["result"]["text"] == "a"
    assert (await post(client, ask, idempotency_key="k-job"))["state"] == "done"
    assert worker.attempts.empty()
    headers = {"Idempotency-Key": "k-job"}
    other = await client.post(JOBS, json={**ask, "prompt": "y"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_a_job_that_fails_for_now_is_put_again_unless_it_has_spoken(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    silent = await post(client, ask)
    await worker.fail(await worker.start(), retryable=True)
    await worker.answer("a")
    assert (await ended(client, silent["id"]))["result"]["text"] == "a"
    heard = await post(client, ask)
    attempt = await worker.start()
    await worker.delta(attempt, "a")
    await worker.fail(attempt, retryable=True)
    failed = await ended(client, heard["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "engine_failed")


async def test_what_its_model_does_not_take_is_refused_at_once(
    client: httpx.AsyncClient, model: str
) -> None:
    refused = await client.post(JOBS, json={"modelId": model, "prompt": "x"})
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_started")
    bad = await client.post(JOBS, json={"modelId": model, "prompt": "x", "maxTokens": 5000})
    assert (bad.status_code, bad.json()["field"]) == (422, "maxTokens")
    listed = (await client.get(JOBS, params={"limit": 100})).json()["jobs"]
    assert model not in [each["modelId"] for each in listed]


async def test_a_job_outlives_its_gateway_and_a_restart_of_redis(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway]
) -> None:
    key = make_key("everything")
    first, second = (new_gateway(own_valkey.url, key) for _ in range(2))
    async with ScriptedWorker(own_valkey.url, "m") as worker, client_of(second) as client:
        second.wait_until_ready()
        first.wait_until_ready()
        async with client_of(first) as theirs:
            job = await post(theirs, ASK)
        waits = await post(client, ASK)
        attempt = await worker.start()
        assert f"job_{attempt.job.id}" == job["id"]
        await worker.delta(attempt, "a")
        first.kill()
        assert first.process is not None
        assert first.process.returncode == -9
        own_valkey.kill()
        own_valkey.start()
        await worker.db.connection_pool.disconnect()
        second.wait_until(second.answers_ready, 40)
        # As the supervisor does, once it has seen that the process is gone.
        name = attempt.reply.removeprefix(reply_key(""))
        await Heartbeats(worker.db, GATEWAYS).leave(name)
        reader = asyncio.create_task(read(client, job["id"]))
        second.wait_until(lambda: "are taken over" in second.log.read_text(), 30)
        await worker.delta(attempt, "b")
        await worker.done(attempt)
        assert (await ended(client, job["id"]))["result"]["text"] == "ab"
        assert text_of(await reader) == text_of(await read(client, job["id"])) == "ab"
        await worker.answer("c")
        assert (await ended(client, waits["id"]))["result"]["text"] == "c"
        assert worker.attempts.empty()


async def test_the_oldest_answers_go_when_all_take_too_much(redis_url: str) -> None:
    db = connect(redis_url)
    taken = int(await db.get("ew:{_jobs}:bytes") or 0)
    records = BackgroundJobs(db, taken + 20_000)
    about = AboutJob("m", "r", 60.0)
    for number in range(6):
        job = Job(f"full{number}", "m", Sampling(), prompt="x", key_id="k-full")
        await records.create(job, about, job_id=f"full{number}", keeper="g", digest="")
        await records.end(
            f"full{number}", JobState.DONE, JobOutcome(), keep_s=60, answer=b"x" * 5_000
        )
        assert int(await db.get("ew:{_jobs}:bytes") or 0) <= taken + 20_000
    kept = [each.id for each in await records.of_key("k-full", 10)]
    assert kept == ["full5", "full4", "full3"]
    for job_id in kept:
        assert await records.forget(job_id)
    assert int(await db.get("ew:{_jobs}:bytes") or 0) <= taken
    await db.aclose()


async def test_a_damaged_record_holds_up_no_other_job(own_valkey: ValkeyServer) -> None:
    """Neither where the jobs of a lost keeper are taken over, nor where answers are forgotten."""
    db = connect(own_valkey.url)
    records, about = BackgroundJobs(db, 100_000), AboutJob("m", "r", 60.0)
    for name in ("a", "b", "c"):
        job = Job(name, "m", Sampling(), prompt="x", key_id="k")
        await records.create(job, about, job_id=name, keeper="lost", digest="")
    await db.delete("ew:{_jobs}:job:b")
    await db.set("ew:{_jobs}:job:b", "damaged")
    assert sorted(await records.adopt("heir", [], 10)) == ["a", "c"]
    for name in ("a", "c"):
        await records.end(name, JobState.DONE, JobOutcome(), keep_s=60, answer=b"x", keeper="heir")
    await db.delete("ew:{_jobs}:job:a")
    await db.set("ew:{_jobs}:job:a", "damaged")
    assert [await records.forget(name) for name in ("a", "c")] == [True, True]
    assert not await db.exists("ew:{_jobs}:job:a", "ew:{_jobs}:job:c")
    await db.aclose()
