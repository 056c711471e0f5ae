"""Workers as processes, over a real server, under real signals: a client sees every token once
and in order, or an error that says why not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import pytest

from contract.bus.cancellations import Cancellations
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import MAX_ATTEMPTS
from contract.endings import EndedBy
from contract.messages import Done, ErrorCode, Failed, Started, State
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import end_lease, leap, restore, snapshot
from tests.redis_proxy import RedisProxy
from tests.waiting import BUSY, until
from tests.workers.client import Client
from tests.workers.read_answer import assert_counted
from tests.workers.worker_processes import WorkerProcess, WorkerProcesses


async def test_many_answers_at_once_are_each_complete_and_in_order(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start().ready()
    lengths = [1 + n % 40 for n in range(64)]
    ids = [await client.ask(length) for length in lengths]
    await client.ended(ids)
    for job_id, length in zip(ids, lengths, strict=True):
        assert_counted(client.answers[job_id], length)
        assert len(client.answers[job_id].attempts) == 1
    await until(client.is_settled)
    assert [await client.state_of(job_id) for job_id in ids] == ["done"] * 64


async def test_answers_of_a_killed_worker_are_finished_by_another(
    client: Client, workers: WorkerProcesses
) -> None:
    first = await workers.start().ready()
    ids = [await client.ask(120) for _ in range(12)]
    await client.saw_tokens(ids, 10)
    await first.kill()
    await workers.start().ready()
    await client.ended(ids)
    for job_id in ids:
        assert_counted(client.answers[job_id], 120)
        assert len(client.answers[job_id].attempts) == 2
    await until(client.is_settled)


async def test_a_restarted_worker_finds_its_jobs_before_its_lease_has_ended(
    client: Client, workers: WorkerProcesses
) -> None:
    first = await workers.start("same").ready()
    job_id = await client.ask(120)
    await client.saw_tokens([job_id], 10)
    await first.kill(lease_ends=False)
    # From here on it renews that lease itself: by its end, no worker would ever find the job.
    workers.start("same")
    await client.ended([job_id])
    assert_counted(client.answers[job_id], 120)


async def test_a_worker_that_stood_still_past_its_lease_is_fenced_and_drops_its_job(
    client: Client, workers: WorkerProcesses
) -> None:
    late = await workers.start(engine_args={"tokens_per_s": 100}).ready()
    job_id = await client.ask(2000)
    await client.saw_tokens([job_id], 20)
    await workers.start(engine_args={"tokens_per_s": 1000}).ready()
    await late.freeze()
    await end_lease(client.db, client.queue.model, late.name)
    answer = client.answers[job_id]
    await client.see(lambda: len(answer.attempts) == 2)
    late.thaw()
    assert late.kernel_state() != "T"
    await late.says(lambda beat: beat.fenced_total == 1 and beat.running == 0)
    await client.ended([job_id])
    assert_counted(answer, 2000)
    former, latest = answer.attempts
    restarted = next(i for i, each in enumerate(answer.envelopes) if each.attempt == latest)
    overtaken = [each for each in answer.envelopes[restarted:] if each.attempt == former]
    assert overtaken, "the late worker said nothing, so nothing was fenced"
    assert not any(isinstance(each.event, Done) for each in overtaken)


async def test_a_worker_told_to_stop_finishes_its_answers_and_takes_no_more(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start().ready()
    ids = [await client.ask(200) for _ in range(4)]
    await client.saw_tokens(ids, 5)
    worker.process.send_signal(signal.SIGTERM)
    await until(lambda: _is_stopping(worker))
    late = await client.ask(5)
    assert await worker.exits() == 0
    await client.ended(ids)
    for job_id in ids:
        assert_counted(client.answers[job_id], 200)
    assert await client.state_of(late) == "queued"
    assert await worker.heartbeat() is None


async def _is_stopping(worker: WorkerProcess) -> bool:
    beat = await worker.heartbeat()
    return beat is None or beat.state.value == "stopping"


async def test_what_cannot_be_finished_in_time_is_given_back_and_not_held_against_the_job(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(drain_s=0.2, engine_args={"tokens_per_s": 100}).ready()
    ids = [await client.ask(250) for _ in range(8)]
    await client.saw_tokens(ids, 5)
    workers.start()
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0
    await client.ended(ids)
    for job_id in ids:
        assert_counted(client.answers[job_id], 250)
    given = [job_id for job_id in ids if len(client.answers[job_id].attempts) == 2]
    assert given, "the stopped worker had no job to give back"
    for job_id in given:
        assert await client.db.hget(client.queue.job_key(job_id), "forgiven") == b"1"


async def test_who_leaves_for_another_model_ends_what_nobody_could_go_on_with(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(drain_s=0.2, engine_args={"tokens_per_s": 100}).ready()
    whole = await client.ask(300, n=2)
    ids = [await client.ask(600) for _ in range(4)]
    await client.saw_tokens([whole, *ids], 5)
    worker.process.send_signal(signal.SIGQUIT)
    await until(lambda: _is_stopping(worker))
    await workers.start().ready()
    await client.ended([whole, *ids])
    assert await worker.exits() == 0
    assert [len(client.answers[job_id].attempts) for job_id in ids] == [2] * 4
    for job_id in ids:
        assert_counted(client.answers[job_id], 600)
    answer = client.answers[whole]
    assert (len(answer.attempts), type(answer.end), len(answer.tokens)) == (1, Done, 600)


async def test_who_leaves_can_be_hurried(client: Client, workers: WorkerProcesses) -> None:
    worker = await workers.start(drain_s=0.2).ready()
    whole = await client.ask(100_000, n=2)
    await client.saw_tokens([whole], 5)
    worker.process.send_signal(signal.SIGQUIT)
    await until(lambda: _is_stopping(worker))
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0
    await workers.start().ready()
    await client.ended([whole])
    end = client.answers[whole].end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.ENGINE_LOST, True)


async def test_a_worker_sleeps_when_it_has_finished_and_serves_again_when_woken(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start().ready()
    running = await client.ask(200)
    await client.saw_tokens([running], 5)
    worker.process.send_signal(signal.SIGUSR1)
    await worker.says(lambda beat: beat.state is State.SLEEPING)
    await client.ended([running])
    assert_counted(client.answers[running], 200)
    waiting = await client.ask(5)
    worker.process.send_signal(signal.SIGUSR1)
    # Longer than a worker that claims would have needed.
    await asyncio.sleep(0.25)
    assert await client.state_of(waiting) == "queued"
    worker.process.send_signal(signal.SIGUSR2)
    await client.ended([waiting])
    assert_counted(client.answers[waiting], 5)
    worker.process.send_signal(signal.SIGUSR1)
    await worker.says(lambda beat: beat.state is State.SLEEPING)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0


async def test_a_worker_that_is_woken_before_it_sleeps_does_not_oversleep(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start().ready()
    running = await client.ask(100)
    await client.saw_tokens([running], 5)
    worker.process.send_signal(signal.SIGUSR1)
    # Of two signals that wait for a process, Linux has the handler of the last run first.
    await worker.says(lambda beat: beat.state is not State.READY)
    worker.process.send_signal(signal.SIGUSR2)
    later = await client.ask(5)
    await client.ended([running, later])
    assert_counted(client.answers[later], 5)


async def test_a_worker_told_to_stop_while_redis_is_gone_ends_all_the_same(
    own_valkey: ValkeyServer, own_client: Client, own_workers: WorkerProcesses
) -> None:
    worker = await own_workers.start(drain_s=0.1).ready()
    job_id = await own_client.ask(5000)
    await own_client.saw_tokens([job_id], 5)
    own_valkey.kill()
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0


async def test_answers_go_on_after_the_server_was_killed_and_started_again(
    own_valkey: ValkeyServer, own_client: Client, own_workers: WorkerProcesses
) -> None:
    worker = await own_workers.start().ready()
    ids = [await own_client.ask(300) for _ in range(16)]
    await own_client.saw_tokens(ids, 10)
    own_valkey.kill()
    await own_client.see(lambda: "publishing again in" in worker.log())
    own_valkey.start()
    await own_client.ended(ids)
    for job_id in ids:
        assert_counted(own_client.answers[job_id], 300)
    again = await own_client.ask(3)
    await own_client.ended([again])
    await until(own_client.is_settled)


async def test_connections_that_break_all_the_time_lose_and_repeat_nothing(
    own_client: Client, own_workers: WorkerProcesses
) -> None:
    for _ in range(2):
        await own_workers.start(slots=16).ready()
    ids = [await own_client.ask(150) for _ in range(24)]
    await own_client.saw_tokens(ids[:8], 3)
    broken = 0
    ends_at = time.monotonic() + 1.2
    while broken <= 10 or time.monotonic() < ends_at:
        broken += await own_client.db.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.15)
    await own_client.ended(ids)
    for job_id in ids:
        assert_counted(own_client.answers[job_id], 150)
    await until(own_client.is_settled)


async def crash_until(
    client: Client, workers: WorkerProcesses, poisons: list[str], ended_by: EndedBy
) -> int:
    """Start a worker for each that a request ends, until these have ended. Return how many died."""
    worker, crashes = workers.start(), 0
    while any(client.answers[job_id].end is None for job_id in poisons):
        if worker.process.poll() is not None:
            crashes += 1
            await worker.is_told_of(ended_by)
            worker = workers.start()
        await asyncio.sleep(0.02)
    return crashes


async def test_requests_that_kill_every_worker_end_as_poison_and_take_no_other_along(
    client: Client, workers: WorkerProcesses
) -> None:
    innocent = [await client.ask(250) for _ in range(6)]
    poisons = [await client.ask(50, "die [[crash_at=2]]") for _ in range(2)]
    innocent += [await client.ask(250) for _ in range(6)]
    crashes = await crash_until(client, workers, poisons, EndedBy.ITSELF)
    await client.ended(innocent)
    for end in (client.answers[job_id].end for job_id in poisons):
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == (ErrorCode.POISON, False)
    # Two that both were in, a trial of each, and each once more if others were there that had got
    # on.
    assert MAX_ATTEMPTS + 1 <= crashes <= MAX_ATTEMPTS + 3
    assert await client.db.xlen(client.queue.dead_letters.key) == 2
    for job_id in innocent:
        assert_counted(client.answers[job_id], 250)
    await until(client.is_settled)


@pytest.mark.slow
async def test_a_request_whose_workers_seem_to_be_killed_by_hand_ends_as_poison_in_the_end(
    client: Client, workers: WorkerProcesses
) -> None:
    innocent = await client.ask(250)
    poison = await client.ask(50, "die [[crash_at=2]]")
    crashes = await crash_until(client, workers, [poison], EndedBy.OUTSIDE)
    await client.ended([innocent])
    end = client.answers[poison].end
    assert isinstance(end, Failed)
    assert end.code == ErrorCode.POISON
    assert crashes <= MAX_ATTEMPTS + 4
    assert_counted(client.answers[innocent], 250)


@pytest.mark.parametrize("kills", [3, pytest.param(16, marks=pytest.mark.slow)])
async def test_kills_by_hand_at_any_moment_condemn_no_answer(
    client: Client, workers: WorkerProcesses, kills: int
) -> None:
    ids = [await client.ask(100) for _ in range(16)]
    for _ in range(kills):
        said = len(client.envelopes)
        worker = await workers.start(engine_args={"first_token_delay_s": 1}).ready()
        # From the third on, when a job has the worker to itself, or was to have it soon.
        with contextlib.suppress(AssertionError):
            await until(lambda said=said: len(client.envelopes) > said, 0.3)
        worker.process.kill()
        await worker.exits()
        await worker.is_told_of(EndedBy.OUTSIDE)
    workers.start()
    await client.ended(ids, timeout_s=40)
    assert await client.db.xlen(client.queue.dead_letters.key) == 0
    for job_id in ids:
        assert_counted(client.answers[job_id], 100)


async def test_answers_that_were_there_when_many_workers_broke_are_all_completed(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start().ready()
    innocent = [await client.ask(1200) for _ in range(4)]
    await client.saw_tokens(innocent, 1)
    poisons, crashes = [], 0
    while len(poisons) < 2 or client.answers[poisons[-1]].end is None:
        if not poisons or client.answers[poisons[-1]].end is not None:
            poisons.append(await client.ask(50, "die [[crash_at=2]]"))
        if worker.process.poll() is not None:
            crashes += 1
            await worker.is_told_of(EndedBy.ITSELF)
            worker = workers.start()
        await asyncio.sleep(0.02)
    assert crashes <= 2 * (MAX_ATTEMPTS + 1)
    assert all(client.answers[job_id].end is None for job_id in innocent), "they were not there"
    assert await client.db.xlen(client.queue.dead_letters.key) == 2
    await client.ended(innocent, timeout_s=60)
    for job_id in innocent:
        assert len(client.answers[job_id].attempts) > MAX_ATTEMPTS + 1
        assert_counted(client.answers[job_id], 1200)


async def _is_cancelled(client: Client, job_id: str) -> bool:
    return await client.state_of(job_id) == "cancelled"


async def test_cancelling_stops_that_answer_within_two_seconds_and_no_other(
    client: Client, workers: WorkerProcesses
) -> None:
    worker = await workers.start(engine_args={"tokens_per_s": 50}).ready()
    ids = [await client.ask(100_000) for _ in range(3)]
    await client.saw_tokens(ids, 5)
    assert await Cancellations(client.db, client.queue.model).announce(ids[0])
    await until(lambda: _is_cancelled(client, ids[0]), 2 * BUSY)
    # One stream, in order: what comes after tokens of later steps comes after the last of this one.
    await client.saw_tokens(ids[1:], len(client.answers[ids[1]].tokens) + 20)
    cancelled, other = (len(client.answers[job_id].tokens) for job_id in ids[:2])
    await client.saw_tokens(ids[1:], other + 50)
    assert len(client.answers[ids[0]].tokens) == cancelled
    await worker.says(lambda beat: beat.running == 2)


async def test_cancelled_jobs_in_the_queue_are_dropped_and_hold_nobody_up(
    client: Client, workers: WorkerProcesses
) -> None:
    cancellations = Cancellations(client.db, client.queue.model)
    unwanted = [await client.ask(1000) for _ in range(150)]
    wanted = await client.ask(5)
    for job_id in unwanted:
        await cancellations.announce(job_id)
    await workers.start(slots=2).ready()
    await client.ended([wanted])
    assert all(client.answers[job_id].envelopes == [] for job_id in unwanted)
    await until(client.is_settled)


async def test_jobs_of_a_gateway_that_does_not_come_back_are_cancelled_after_the_grace(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start(gateway_grace_s=0.5).ready()
    job_id = await client.ask(100_000)
    await client.saw_tokens([job_id], 5)
    await client.fall_silent()
    left_at = time.monotonic()
    await until(client.is_settled)
    assert time.monotonic() - left_at > 0.5
    assert await client.state_of(job_id) == "cancelled"
    # The rest of it is read; an answer that went on would not end for minutes.
    said = -1
    while said < (now := len(client.answers[job_id].tokens)):
        said = now
        await asyncio.sleep(0.2)
    assert said < 100_000


async def test_a_gateway_that_left_takes_along_what_nobody_can_ask_for_and_nothing_else(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start(gateway_grace_s=3600, engine_args={"tokens_per_s": 100}).ready()
    unwanted, kept = await client.ask(100_000), await client.ask_to_keep(200)
    await client.saw_tokens([unwanted, kept], 5)
    await client.leave()
    await until(lambda: _is(client, unwanted, "cancelled"))
    await client.ended([kept])
    assert_counted(client.answers[kept], 200)


async def test_jobs_of_a_gateway_that_left_hold_nobody_up_in_the_queue(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start(slots=1, gateway_grace_s=3600).ready()
    waiting = [await client.ask(100_000) for _ in range(100)]
    await client.saw_tokens(waiting[:1], 5)
    await client.leave()
    for job_id in waiting:
        await until(lambda job_id=job_id: _is(client, job_id, "cancelled"))
    # Not one by one, as they would be found out.
    assert all(not client.answers[job_id].tokens for job_id in waiting[5:])


async def _is(client: Client, job_id: str, state: str) -> bool:
    return await client.state_of(job_id) == state


async def test_no_more_answers_are_open_at_once_than_the_engine_has_slots(
    client: Client, workers: WorkerProcesses
) -> None:
    ids = [await client.ask(4) for _ in range(30)]
    await workers.start(slots=3).ready()
    await client.ended(ids)
    running = most = 0
    for envelope in client.envelopes:
        running += isinstance(envelope.event, Started) - isinstance(envelope.event, Done)
        most = max(most, running)
    assert most == 3


async def test_a_worker_whose_engine_hangs_on_a_job_serves_the_others(
    client: Client, workers: WorkerProcesses
) -> None:
    await workers.start().ready()
    hung = await client.ask(50, "[[hang_at=3]]")
    await client.saw_tokens([hung], 3)
    others = [await client.ask(10) for _ in range(5)]
    await client.ended(others)
    assert len(client.answers[hung].tokens) == 3


async def test_a_redis_that_accepts_and_resets_ends_no_worker(
    own_client: Client, own_workers: WorkerProcesses, own_valkey: ValkeyServer
) -> None:
    async with RedisProxy(str(own_valkey.socket)) as proxy:
        worker = await own_workers.start(redis_url=proxy.url).ready()
        job_id = await own_client.ask(400)
        await own_client.saw_tokens([job_id], 5)
        proxy.reset()
        cut = proxy.resets
        await own_client.see(lambda: proxy.resets >= cut + 20)
        assert worker.process.poll() is None, worker.log()
        proxy.heal()
        await own_client.ended([job_id])
        assert_counted(own_client.answers[job_id], 400)
        later = await own_client.ask(5)
        await own_client.ended([later])
        assert worker.process.poll() is None, worker.log()


async def test_a_clock_that_leaps_an_hour_forward_ends_and_moves_no_answer(
    own_client: Client, own_workers: WorkerProcesses
) -> None:
    workers = [await own_workers.start().ready() for _ in range(2)]
    ids = [await own_client.ask(2000) for _ in range(8)]
    await own_client.saw_tokens(ids, 5)
    beats = Heartbeats(own_client.db, own_client.queue.model)
    await leap(own_client.db, 3600)
    assert await beats.names() == set(), "the leases did not end"
    await own_client.ended(ids, timeout_s=60)
    for job_id in ids:
        assert_counted(own_client.answers[job_id], 2000)
        assert len(own_client.answers[job_id].attempts) == 1
    assert await beats.names() == {worker.name for worker in workers}
    await workers[0].kill()
    await until(own_client.is_settled)


async def test_what_a_lagging_replica_takes_for_under_way_is_ended_there_too(
    own_client: Client, own_workers: WorkerProcesses
) -> None:
    await own_workers.start().ready()
    job_id = await own_client.ask(300)
    await own_client.saw_tokens([job_id], 5)
    older = await snapshot(own_client.db)
    await own_client.ended([job_id])
    await until(own_client.is_settled)
    await restore(own_client.db, older)
    assert await own_client.state_of(job_id) == "running", "it does not lag"
    await until(own_client.is_settled)
    assert await own_client.state_of(job_id) == "done"
