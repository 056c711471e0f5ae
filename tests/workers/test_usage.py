"""The use of jobs is counted through the deaths of workers and of the server: no more than the last
second is lost, and nothing is counted twice."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from contract.bus.cancellations import Cancellations
from contract.bus.records.usage_accounts import UsageAccounts, UsageCounts
from contract.bus.records.use_progress import UseProgress
from contract.messages import Done
from tests.conftest import ValkeyServer
from tests.waiting import until
from tests.workers.client import Client
from tests.workers.worker_processes import WorkerProcess, WorkerProcesses


async def counted(client: Client) -> UsageCounts:
    day = datetime.now(UTC).date()
    rows = await UsageAccounts(client.db).report(day - timedelta(1), day, by=("model",), key="")
    of_model = (row.counts for row in rows if row.model == client.queue.model)
    return next(of_model, UsageCounts())


async def settled(client: Client) -> UsageCounts:
    await until(client.is_settled)
    return await counted(client)


def told(client: Client, ids: list[str]) -> tuple[int, int]:
    """Return the tokens of prompts and answers that clients were told."""
    ends = [client.answers[job_id].end for job_id in ids]
    done = [end for end in ends if isinstance(end, Done)]
    assert len(done) == len(ids)
    return sum(each.prompt_tokens for each in done), sum(each.completion_tokens for each in done)


async def progress(client: Client, worker: WorkerProcess) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await client.db.hgetall(
        UseProgress(client.db, client.queue.model).key(worker.name)
    )
    return found


async def test_usage_is_what_clients_were_told_whichever_worker_died(
    client: Client, workers: WorkerProcesses
) -> None:
    began = time.monotonic()
    worker = await workers.start(engine_args={"tokens_per_s": 100}).ready()
    ids = [await client.ask(140) for _ in range(8)]
    await client.saw_tokens(ids, 10)
    await worker.kill()
    worker = await workers.start(engine_args={"tokens_per_s": 100}).ready()
    await client.saw_tokens(ids, 60)
    await worker.kill()
    await workers.start(engine_args={"tokens_per_s": 100}).ready()
    await client.ended(ids)
    counts = await settled(client)
    took_ms = (time.monotonic() - began) * 1000
    prompt, completion = told(client, ids)
    assert counts[:3] == (8, 0, 0)
    assert (counts.prompt_tokens, counts.completion_tokens) == (prompt, completion)
    # Eight at once share the time of each worker, so it is no more than has passed.
    assert 100 < counts.engine_ms <= took_ms
    assert {len(client.answers[job_id].attempts) for job_id in ids} == {3}


async def test_what_a_lost_worker_had_done_counts_if_nobody_goes_on_with_it(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(engine_args={"tokens_per_s": 100}).ready()
    # Several choices cannot be continued.
    job_id = await client.ask(5000, n=2)
    await until(lambda: progress(client, worker))
    (said,) = (await progress(client, worker)).values()
    await worker.kill()
    await workers.start().ready()
    await client.ended([job_id])
    counts = await settled(client)
    prompt, _, completion, _, engine_ms = map(int, said.split())
    assert completion > 0
    assert counts[:4] == (1, 1, 0, prompt)
    assert counts.completion_tokens >= completion
    assert counts.engine_ms >= engine_ms > 0


async def test_a_cancelled_answer_counts_what_was_generated(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start(engine_args={"tokens_per_s": 100}).ready()
    job_id = await client.ask(5000)
    await client.saw_tokens([job_id], 20)
    assert await Cancellations(client.db, client.queue.model).announce(job_id)
    counts = await settled(client)
    assert counts[:3] == (1, 0, 1)
    assert counts.completion_tokens >= 20


async def test_the_death_of_the_server_loses_no_count_and_repeats_none(
    own_valkey: ValkeyServer, own_client: Client, own_workers: WorkerProcesses
) -> None:
    client = own_client
    worker = await own_workers.start(engine_args={"tokens_per_s": 400}).ready()
    ids = [await client.ask(20 + 40 * (n % 8)) for n in range(32)]
    for tokens in (30, 120):
        await client.see(lambda t=tokens: any(len(a.tokens) >= t for a in client.answers.values()))
        own_valkey.kill()
        await client.see(lambda: "again in" in worker.log())
        own_valkey.start()
    await client.ended(ids)
    counts = await settled(client)
    assert counts[:3] == (32, 0, 0)
    assert (counts.prompt_tokens, counts.completion_tokens) == told(client, ids)
