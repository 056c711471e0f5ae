"""Workers as processes, over a real server, under real signals: a client sees every token once
and in order, or an error that says why not."""

from __future__ import annotations

import asyncio
import signal
import time

from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import MAX_ATTEMPTS, Cancellations
from contract.messages import Done, ErrorCode, Failed, Started, State
from tests.conftest import ValkeyServer
from tests.contract.parts import end_lease, leap, restore, snapshot, until
from tests.redis_proxy import RedisProxy
from tests.workers.crew import Crew, Member
from tests.workers.desk import Desk
from tests.workers.fold import assert_counted


async def test_many_answers_at_once_are_each_complete_and_in_order(desk: Desk, crew: Crew) -> None:
    await crew.hire().ready()
    lengths = [1 + n % 40 for n in range(64)]
    ids = [await desk.ask(length) for length in lengths]
    await desk.ended(ids)
    for job_id, length in zip(ids, lengths, strict=True):
        assert_counted(desk.folds[job_id], length)
        assert desk.folds[job_id].attempt == 1
    await until(desk.is_settled)
    assert [await desk.state_of(job_id) for job_id in ids] == ["done"] * 64


async def test_answers_of_a_killed_worker_are_finished_by_another(desk: Desk, crew: Crew) -> None:
    first = await crew.hire().ready()
    ids = [await desk.ask(120) for _ in range(12)]
    await desk.saw_tokens(ids, 10)
    await first.kill()
    await crew.hire().ready()
    await desk.ended(ids)
    for job_id in ids:
        assert_counted(desk.folds[job_id], 120)
        assert desk.folds[job_id].attempt == 2
    await until(desk.is_settled)


async def test_a_restarted_worker_finds_its_jobs_before_its_lease_has_ended(
    desk: Desk, crew: Crew
) -> None:
    first = await crew.hire("same").ready()
    job_id = await desk.ask(120)
    await desk.saw_tokens([job_id], 10)
    await first.kill(lease_ends=False)
    # From here on it renews that lease itself: by its end, nobody would ever find the job.
    crew.hire("same")
    await desk.ended([job_id])
    assert_counted(desk.folds[job_id], 120)


async def test_a_worker_that_stood_still_past_its_lease_is_fenced_and_drops_its_job(
    desk: Desk, crew: Crew
) -> None:
    late = await crew.hire(engine_args={"tokens_per_s": 100}).ready()
    job_id = await desk.ask(2000)
    await desk.saw_tokens([job_id], 20)
    await crew.hire(engine_args={"tokens_per_s": 1000}).ready()
    await late.freeze()
    fold = desk.folds[job_id]
    await desk.see(lambda: fold.attempt == 2)
    late.thaw()
    assert late.kernel_state() != "T"
    await late.says(lambda beat: beat.fenced_total == 1 and beat.running == 0)
    await desk.ended([job_id])
    assert_counted(fold, 2000)
    restarted = next(i for i, each in enumerate(fold.letters) if each.attempt == 2)
    overtaken = [each for each in fold.letters[restarted:] if each.attempt == 1]
    assert overtaken, "the late worker said nothing, so nothing was fenced"
    assert not any(isinstance(each.event, Done) for each in overtaken)


async def test_a_worker_told_to_stop_finishes_its_answers_and_takes_no_more(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire().ready()
    ids = [await desk.ask(200) for _ in range(4)]
    await desk.saw_tokens(ids, 5)
    worker.process.send_signal(signal.SIGTERM)
    await until(lambda: _is_stopping(worker))
    late = await desk.ask(5)
    assert await worker.exits() == 0
    await desk.ended(ids)
    for job_id in ids:
        assert_counted(desk.folds[job_id], 200)
    assert await desk.state_of(late) == "queued"
    assert await worker.heartbeat() is None


async def _is_stopping(worker: Member) -> bool:
    beat = await worker.heartbeat()
    return beat is None or beat.state.value == "stopping"


async def test_what_cannot_be_finished_in_time_is_given_back_and_not_held_against_the_job(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire(drain_s=0.2).ready()
    await crew.hire().ready()
    ids = [await desk.ask(250) for _ in range(8)]
    await desk.saw_tokens(ids, 5)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0
    await desk.ended(ids)
    for job_id in ids:
        assert_counted(desk.folds[job_id], 250)
    given = [job_id for job_id in ids if desk.folds[job_id].attempt == 2]
    assert given, "the stopped worker had no job to give back"
    for job_id in given:
        assert await desk.db.hget(desk.queue.job_key(job_id), "forgiven") == b"1"


async def test_who_leaves_for_another_model_ends_what_nobody_could_go_on_with(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire(drain_s=0.2, engine_args={"tokens_per_s": 100}).ready()
    whole = await desk.ask(300, n=2)
    ids = [await desk.ask(600) for _ in range(4)]
    await desk.saw_tokens([whole, *ids], 5)
    worker.process.send_signal(signal.SIGQUIT)
    await until(lambda: _is_stopping(worker))
    await crew.hire().ready()
    await desk.ended([whole, *ids])
    assert await worker.exits() == 0
    assert [desk.folds[job_id].attempt for job_id in ids] == [2] * 4
    for job_id in ids:
        assert_counted(desk.folds[job_id], 600)
    fold = desk.folds[whole]
    assert (fold.attempt, type(fold.end), len(fold.tokens)) == (1, Done, 600)


async def test_who_leaves_can_be_hurried(desk: Desk, crew: Crew) -> None:
    worker = await crew.hire(drain_s=0.2).ready()
    whole = await desk.ask(100_000, n=2)
    await desk.saw_tokens([whole], 5)
    worker.process.send_signal(signal.SIGQUIT)
    await until(lambda: _is_stopping(worker))
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0
    await crew.hire().ready()
    await desk.ended([whole])
    end = desk.folds[whole].end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.ENGINE_LOST, True)


async def test_a_worker_sleeps_when_it_has_finished_and_serves_again_when_woken(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire().ready()
    running = await desk.ask(200)
    await desk.saw_tokens([running], 5)
    worker.process.send_signal(signal.SIGUSR1)
    await worker.says(lambda beat: beat.state is State.SLEEPING)
    await desk.ended([running])
    assert_counted(desk.folds[running], 200)
    waiting = await desk.ask(5)
    worker.process.send_signal(signal.SIGUSR1)
    # Longer than a worker that claims would have needed.
    await asyncio.sleep(1.5)
    assert await desk.state_of(waiting) == "queued"
    worker.process.send_signal(signal.SIGUSR2)
    await desk.ended([waiting])
    assert_counted(desk.folds[waiting], 5)
    worker.process.send_signal(signal.SIGUSR1)
    await worker.says(lambda beat: beat.state is State.SLEEPING)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0


async def test_a_worker_that_is_woken_before_it_sleeps_does_not_oversleep(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire().ready()
    running = await desk.ask(100)
    await desk.saw_tokens([running], 5)
    worker.process.send_signal(signal.SIGUSR1)
    worker.process.send_signal(signal.SIGUSR2)
    later = await desk.ask(5)
    await desk.ended([running, later])
    assert_counted(desk.folds[later], 5)


async def test_a_worker_told_to_stop_while_redis_is_gone_ends_all_the_same(
    own_valkey: ValkeyServer, own_desk: Desk, own_crew: Crew
) -> None:
    worker = await own_crew.hire(drain_s=0.1).ready()
    job_id = await own_desk.ask(5000)
    await own_desk.saw_tokens([job_id], 5)
    own_valkey.kill()
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.exits() == 0


async def test_answers_go_on_after_the_server_was_killed_and_started_again(
    own_valkey: ValkeyServer, own_desk: Desk, own_crew: Crew
) -> None:
    await own_crew.hire().ready()
    ids = [await own_desk.ask(300) for _ in range(16)]
    await own_desk.saw_tokens(ids, 10)
    own_valkey.kill()
    await asyncio.sleep(0.3)
    own_valkey.start()
    await own_desk.ended(ids)
    for job_id in ids:
        assert_counted(own_desk.folds[job_id], 300)
    again = await own_desk.ask(3)
    await own_desk.ended([again])
    await until(own_desk.is_settled)


async def test_connections_that_break_all_the_time_lose_and_repeat_nothing(
    own_desk: Desk, own_crew: Crew
) -> None:
    for _ in range(2):
        await own_crew.hire(slots=16).ready()
    ids = [await own_desk.ask(150) for _ in range(24)]
    await own_desk.saw_tokens(ids[:8], 3)
    broken = 0
    ends_at = time.monotonic() + 1.2
    while time.monotonic() < ends_at:
        broken += await own_desk.db.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.15)
    assert broken > 10
    await own_desk.ended(ids)
    for job_id in ids:
        assert_counted(own_desk.folds[job_id], 150)
    await until(own_desk.is_settled)


async def test_a_request_that_kills_every_worker_ends_as_poison_and_takes_no_other_along(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire("w").ready()
    innocent = [await desk.ask(250) for _ in range(6)]
    poison = await desk.ask(50, "die [[crash_at=2]]")
    innocent += [await desk.ask(250) for _ in range(6)]
    crashes = 0
    while desk.folds[poison].end is None:
        assert crashes <= MAX_ATTEMPTS + 1, "the poisonous request goes on killing"
        if worker.process.poll() is not None:
            crashes += 1
            worker = crew.hire("w")
        await asyncio.sleep(0.02)
    await desk.ended(innocent)
    end = desk.folds[poison].end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.POISON, False)
    # Once more if others, which had got on, were still there when its trial broke the worker.
    assert MAX_ATTEMPTS <= crashes <= MAX_ATTEMPTS + 1
    assert await desk.db.xlen(desk.queue.dead_key) == 1
    for job_id in innocent:
        assert_counted(desk.folds[job_id], 250)
    await until(desk.is_settled)


async def test_answers_that_were_there_when_many_workers_broke_are_all_completed(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire().ready()
    innocent = [await desk.ask(2500) for _ in range(4)]
    await desk.saw_tokens(innocent, 1)
    poisons, crashes = [], 0
    while len(poisons) < 4 or desk.folds[poisons[-1]].end is None:
        if not poisons or desk.folds[poisons[-1]].end is not None:
            poisons.append(await desk.ask(50, "die [[crash_at=2]]"))
        if worker.process.poll() is not None:
            crashes += 1
            await end_lease(desk.db, desk.queue.model, worker.name)
            worker = crew.hire()
        await asyncio.sleep(0.02)
    assert crashes <= 4 * (MAX_ATTEMPTS + 1)
    assert all(desk.folds[job_id].end is None for job_id in innocent), "they were not there"
    assert await desk.db.xlen(desk.queue.dead_key) == 4
    await desk.ended(innocent, timeout_s=60)
    for job_id in innocent:
        assert desk.folds[job_id].attempt > MAX_ATTEMPTS + 1
        assert_counted(desk.folds[job_id], 2500)


async def test_cancelling_stops_that_answer_within_two_seconds_and_no_other(
    desk: Desk, crew: Crew
) -> None:
    worker = await crew.hire(engine_args={"tokens_per_s": 50}).ready()
    ids = [await desk.ask(100_000) for _ in range(3)]
    await desk.saw_tokens(ids, 5)
    assert await Cancellations(desk.db, desk.queue.model).announce(ids[0])
    await asyncio.sleep(2)
    tokens = [len(desk.folds[job_id].tokens) for job_id in ids]
    await desk.saw_tokens(ids[1:], tokens[1] + 20)
    assert len(desk.folds[ids[0]].tokens) == tokens[0] < tokens[1] - 50
    assert await desk.state_of(ids[0]) == "cancelled"
    await worker.says(lambda beat: beat.running == 2)


async def test_cancelled_jobs_in_the_queue_are_dropped_and_hold_nobody_up(
    desk: Desk, crew: Crew
) -> None:
    cancellations = Cancellations(desk.db, desk.queue.model)
    unwanted = [await desk.ask(1000) for _ in range(150)]
    wanted = await desk.ask(5)
    for job_id in unwanted:
        await cancellations.announce(job_id)
    await crew.hire(slots=2).ready()
    await desk.ended([wanted], timeout_s=5)
    assert all(desk.folds[job_id].letters == [] for job_id in unwanted)
    await until(desk.is_settled)


async def test_jobs_of_a_gateway_that_does_not_come_back_are_cancelled_after_the_grace(
    desk: Desk, crew: Crew
) -> None:
    await crew.hire(gateway_grace_s=0.5).ready()
    job_id = await desk.ask(100_000)
    await desk.saw_tokens([job_id], 5)
    await desk.fall_silent()
    left_at = time.monotonic()
    await until(desk.is_settled, timeout_s=10)
    assert time.monotonic() - left_at > 0.5
    assert await desk.state_of(job_id) == "cancelled"
    said = len(desk.folds[job_id].tokens)
    await asyncio.sleep(0.2)
    assert len(desk.folds[job_id].tokens) <= said + 2


async def test_a_gateway_that_left_takes_along_what_nobody_can_ask_for_and_nothing_else(
    desk: Desk, crew: Crew
) -> None:
    await crew.hire(gateway_grace_s=3600, engine_args={"tokens_per_s": 100}).ready()
    unwanted, kept = await desk.ask(100_000), await desk.ask_to_keep(800)
    await desk.saw_tokens([unwanted, kept], 5)
    await desk.leave()
    await until(lambda: _is(desk, unwanted, "cancelled"), timeout_s=10)
    await desk.ended([kept])
    assert_counted(desk.folds[kept], 800)


async def test_jobs_of_a_gateway_that_left_hold_nobody_up_in_the_queue(
    desk: Desk, crew: Crew
) -> None:
    await crew.hire(slots=1, gateway_grace_s=3600).ready()
    waiting = [await desk.ask(100_000) for _ in range(100)]
    await desk.saw_tokens(waiting[:1], 5)
    await desk.leave()
    for job_id in waiting:
        await until(lambda job_id=job_id: _is(desk, job_id, "cancelled"), timeout_s=10)
    # Not one by one, as they would be found out.
    assert all(not desk.folds[job_id].tokens for job_id in waiting[5:])


async def _is(desk: Desk, job_id: str, state: str) -> bool:
    return await desk.state_of(job_id) == state


async def test_no_more_answers_are_open_at_once_than_the_engine_has_slots(
    desk: Desk, crew: Crew
) -> None:
    ids = [await desk.ask(4) for _ in range(30)]
    await crew.hire(slots=3).ready()
    await desk.ended(ids)
    running = most = 0
    for letter in desk.letters:
        running += isinstance(letter.event, Started) - isinstance(letter.event, Done)
        most = max(most, running)
    assert most == 3


async def test_a_worker_whose_engine_hangs_on_a_job_serves_the_others(
    desk: Desk, crew: Crew
) -> None:
    await crew.hire().ready()
    hung = await desk.ask(50, "[[hang_at=3]]")
    await desk.saw_tokens([hung], 3)
    others = [await desk.ask(10) for _ in range(5)]
    await desk.ended(others)
    assert len(desk.folds[hung].tokens) == 3


async def test_a_redis_that_accepts_and_resets_ends_no_worker(
    own_desk: Desk, own_crew: Crew, own_valkey: ValkeyServer
) -> None:
    async with RedisProxy(str(own_valkey.socket)) as proxy:
        worker = await own_crew.hire(redis_url=proxy.url).ready()
        job_id = await own_desk.ask(400)
        await own_desk.saw_tokens([job_id], 5)
        proxy.reset()
        cut = proxy.resets
        await own_desk.see(lambda: proxy.resets >= cut + 20)
        assert worker.process.poll() is None, worker.log()
        proxy.heal()
        await own_desk.ended([job_id])
        assert_counted(own_desk.folds[job_id], 400)
        later = await own_desk.ask(5)
        await own_desk.ended([later])
        assert worker.process.poll() is None, worker.log()


async def test_a_clock_that_leaps_an_hour_forward_ends_and_moves_no_answer(
    own_desk: Desk, own_crew: Crew
) -> None:
    workers = [await own_crew.hire().ready() for _ in range(2)]
    ids = [await own_desk.ask(2000) for _ in range(8)]
    await own_desk.saw_tokens(ids, 5)
    beats = Heartbeats(own_desk.db, own_desk.queue.model)
    await leap(own_desk.db, 3600)
    assert await beats.names() == set(), "the leases did not end"
    await own_desk.ended(ids, timeout_s=60)
    for job_id in ids:
        assert_counted(own_desk.folds[job_id], 2000)
        assert own_desk.folds[job_id].attempt == 1
    assert await beats.names() == {worker.name for worker in workers}
    await workers[0].kill()
    await until(own_desk.is_settled)


async def test_what_a_lagging_replica_takes_for_under_way_is_ended_there_too(
    own_desk: Desk, own_crew: Crew
) -> None:
    await own_crew.hire().ready()
    job_id = await own_desk.ask(300)
    await own_desk.saw_tokens([job_id], 5)
    older = await snapshot(own_desk.db)
    await own_desk.ended([job_id])
    await until(own_desk.is_settled)
    await restore(own_desk.db, older)
    assert await own_desk.state_of(job_id) == "running", "it does not lag"
    await until(own_desk.is_settled, 20)
    assert await own_desk.state_of(job_id) == "done"
