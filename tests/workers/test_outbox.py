"""The outbox: what engines say goes out in order, once, and before anything is called ended."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from contract.asked import PromptReport, TraceContext
from contract.bus.claims import Attempt
from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, publish, scan_frames
from contract.messages import Delta, Done, Envelope, ErrorCode, Failed, Job, Sampling, Started
from contract.process.tasks import cancel_and_wait
from contract.wire import decode_frame
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import put_one, serve
from tests.waiting import until
from tests.workers.read_answer import ReadAnswer
from workers import frames as frames_module
from workers.answers.continuation import Published
from workers.engine_state import EngineDied
from workers.outbox import Outbox


class Office:
    """An outbox, the queue that it completes in, and gateways that read."""

    def __init__(self, db: Redis, model: str) -> None:
        self.db = db
        self.queue = JobQueue(db, model)
        self.outbox = Outbox(db, self.queue, "w")
        self.streams: dict[str, ReplyStream] = {}
        self.firsts: dict[str, str] = {}

    async def begin(self, job_id: str, gateway: str = "g", **more: Any) -> Attempt:
        """Return a job, begun and open."""
        await serve(self.queue)
        if gateway not in self.streams:
            self.streams[gateway] = ReplyStream(self.db, f"{self.queue.model}-{gateway}")
            self.firsts[gateway] = await self.streams[gateway].open()
        job = Job(id=job_id, model=self.queue.model, sampling=Sampling(), prompt="x", **more)
        await put_one(
            self.queue,
            job,
            self.streams[gateway].key,
            "0",
            max_waiting=99,
            deadline_ms=60_000,
        )
        (attempt,) = await self.queue.begin("w", await self.queue.claim(self.db, "w", 1, 1000))
        assert isinstance(attempt, Attempt)
        self.outbox.open(attempt)
        return attempt

    async def frames(self, gateway: str = "g") -> list[list[Envelope]]:
        stream = self.streams[gateway]
        frames = scan_frames(self.db, stream.key, self.firsts[gateway])
        return [envelopes async for _, envelopes in frames]

    async def envelopes(self, gateway: str = "g") -> list[Envelope]:
        return [envelope for frame in await self.frames(gateway) for envelope in frame]

    async def answer(self, job_id: str, gateway: str = "g") -> ReadAnswer:
        answer = ReadAnswer()
        for envelope in await self.envelopes(gateway):
            if envelope.job_id == job_id:
                answer.take(envelope)
        return answer

    async def state_of(self, job_id: str) -> str:
        return (await self.db.hget(self.queue.job_key(job_id), "state")).decode()


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    yield
    await cancel_and_wait([task])


@pytest.fixture
async def office(db: Redis, unique_model: str) -> Office:
    made = Office(db, unique_model)
    await made.queue.open()
    return made


@pytest.fixture
async def own_office(own_valkey: ValkeyServer) -> AsyncIterator[Office]:
    db = connect(own_valkey.url)
    made = Office(db, "m")
    await made.queue.open()
    yield made
    await db.aclose()


def say(outbox: Outbox, job_id: str, first: int, last: int) -> None:
    for token in range(first, last):
        outbox.delta(job_id, f"{token} ", [token])


def events(envelopes: list[Envelope]) -> list[object]:
    return [envelope.event for envelope in envelopes]


async def test_events_of_an_answer_go_out_in_order_and_are_numbered(office: Office) -> None:
    outbox = office.outbox
    await office.begin("a")
    async with running(outbox):
        say(outbox, "a", 0, 2)
        outbox.done("a", ("stop",), prompt_tokens=5, cached_tokens=3)
        await outbox.flush()
    envelopes = await office.envelopes()
    number = envelopes[0].attempt
    assert [(each.job_id, each.attempt, each.seq) for each in envelopes[1:]] == [
        ("a", number, 0),
        ("a", number, 1),
        ("a", number, 2),
    ]
    assert events(envelopes) == [
        Started(),
        Delta("0 ", array("I", [0]).tobytes()),
        Delta("1 ", array("I", [1]).tobytes()),
        Done(("stop",), prompt_tokens=5, completion_tokens=2, cached_tokens=3),
    ]
    assert await office.state_of("a") == "done"
    assert "a" not in outbox


async def test_all_that_was_said_between_two_flushes_is_one_frame_for_each_gateway(
    office: Office,
) -> None:
    for job_id, gateway in (("a", "g"), ("b", "g"), ("c", "h")):
        await office.begin(job_id, gateway)
    for job_id in "abc":
        say(office.outbox, job_id, 0, 50)
    async with running(office.outbox):
        await office.outbox.flush()
    assert [len(frame) for frame in await office.frames("g")] == [102]
    assert [len(frame) for frame in await office.frames("h")] == [51]


async def test_a_token_said_at_rest_leaves_at_once(office: Office) -> None:
    await office.begin("a")
    async with running(office.outbox):
        await office.outbox.flush()
        office.outbox.delta("a", "x", [1])
        await asyncio.wait_for(office.outbox.flush(), 20)
    assert [len(frame) for frame in await office.frames()] == [1, 1]


async def test_frames_grow_while_a_flush_is_on_its_way(own_office: Office) -> None:
    outbox = own_office.outbox
    await own_office.begin("a")
    async with running(outbox):
        await outbox.flush()
        await own_office.db.client_pause(60_000, all=False)
        for token in range(40):
            say(outbox, "a", token, token + 1)
            await asyncio.sleep(0.002)
        await own_office.db.client_unpause()
        await outbox.flush()
    sizes = [len(frame) for frame in await own_office.frames()]
    assert sizes[0] == 1
    assert sum(sizes) == 41
    assert len(sizes) <= 4
    assert (await own_office.answer("a")).tokens == array("I", range(40))


async def test_a_batch_too_large_for_one_frame_is_split_in_order(office: Office) -> None:
    await office.begin("a")
    say(office.outbox, "a", 0, 10_000)
    async with running(office.outbox):
        await office.outbox.flush()
    assert max(len(frame) for frame in await office.frames()) <= 4096
    assert (await office.answer("a")).tokens == array("I", range(10_000))


async def test_tokens_without_text_wait_for_the_text_they_belong_to(office: Office) -> None:
    await office.begin("a")
    outbox = office.outbox
    outbox.delta("a", "", [1])
    outbox.delta("a", "", [2, 3])
    outbox.delta("a", "\u00e9", [4])
    outbox.delta("a", "x", [5])
    outbox.delta("a", "", [6])
    outbox.done("a", ("stop",), 1)
    async with running(outbox):
        await outbox.flush()
    said = [event for event in events(await office.envelopes()) if isinstance(event, Delta)]
    assert [(delta.text, list(array("I", delta.tokens))) for delta in said] == [
        ("\u00e9", [1, 2, 3, 4]),
        ("x", [5]),
    ]
    answer = await office.answer("a")
    assert isinstance(answer.end, Done)
    assert answer.end.completion_tokens == 6


async def test_the_token_that_ends_an_answer_is_told_where_tokens_are_asked_for(
    office: Office,
) -> None:
    await office.begin("a", report=PromptReport())
    office.outbox.delta("a", "x", [5])
    office.outbox.delta("a", "", [6])
    office.outbox.done("a", ("stop",), 1)
    async with running(office.outbox):
        await office.outbox.flush()
    *_, text, last, done = events(await office.envelopes())
    assert (text, last) == (
        Delta("x", array("I", [5]).tobytes()),
        Delta("", array("I", [6]).tobytes()),
    )
    assert isinstance(done, Done)
    assert done.completion_tokens == 2


async def test_tokens_that_wait_are_not_given_to_another_choice(office: Office) -> None:
    await office.begin("a")
    office.outbox.delta("a", "", [1], index=0)
    office.outbox.delta("a", "x", [2], index=1)
    office.outbox.delta("a", "y", [3], index=0)
    async with running(office.outbox):
        await office.outbox.flush()
    said = [event for event in events(await office.envelopes()) if isinstance(event, Delta)]
    assert [(delta.index, list(array("I", delta.tokens))) for delta in said] == [
        (1, [2]),
        (0, [1, 3]),
    ]


async def test_the_end_is_published_before_the_job_is_called_ended(office: Office) -> None:
    seen: list[list[object]] = []
    complete = office.queue.complete

    async def look_first(*args: object) -> int:
        seen.append(events(await office.envelopes()))
        return await complete(*args)  # type: ignore[arg-type]

    office.queue.complete = look_first  # type: ignore[method-assign, assignment]
    await office.begin("a")
    async with running(office.outbox):
        office.outbox.done("a", ("stop",), 1)
        await until(lambda: _is(office, "a", "done"))
    assert isinstance(seen[0][-1], Done)


async def _is(office: Office, job_id: str, state: str) -> bool:
    return await office.state_of(job_id) == state


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda outbox: outbox.done("a", ("stop", "length"), 1), "done"),
        (lambda outbox: outbox.done("a", ("cancelled",), 1), "cancelled"),
        (lambda outbox: outbox.failed("a", ErrorCode.ENGINE_FAILED, "why"), "failed"),
        (lambda outbox: outbox.settle("a", "cancelled"), "cancelled"),
    ],
)
async def test_each_end_is_known_to_the_queue_by_its_state(
    office: Office, end: Callable[[Outbox], None], state: str
) -> None:
    await office.begin("a")
    async with running(office.outbox):
        end(office.outbox)
        await office.outbox.flush()
    assert await office.state_of("a") == state
    assert len(office.outbox) == 0
    assert office.outbox.entries() == set()


async def test_what_is_said_of_an_answer_that_is_not_open_is_dropped(office: Office) -> None:
    await office.begin("a")
    outbox = office.outbox
    async with running(outbox):
        outbox.settle("a", "cancelled")
        say(outbox, "a", 0, 3)
        outbox.done("a", ("stop",), 1)
        outbox.failed("a", ErrorCode.ENGINE_FAILED, "late")
        outbox.suppress("a", "x")
        outbox.settle("a", "done")
        await outbox.flush()
    assert events(await office.envelopes()) == [Started()]
    assert await office.state_of("a") == "cancelled"


async def test_an_answer_that_is_withdrawn_ends_nothing(office: Office) -> None:
    attempt = await office.begin("a")
    async with running(office.outbox):
        say(office.outbox, "a", 0, 1)
        office.outbox.withdraw("a")
        say(office.outbox, "a", 1, 2)
        await office.outbox.flush()
    assert len(await office.envelopes()) == 2
    assert await office.state_of("a") == "running"
    assert not office.outbox.is_open(attempt)


async def test_entries_are_held_until_redis_knows_their_end(own_office: Office) -> None:
    attempt = await own_office.begin("a")
    outbox = own_office.outbox
    async with running(outbox):
        await outbox.flush()
        await own_office.db.client_pause(60_000, all=False)
        outbox.done("a", ("stop",), 1)
        assert outbox.entries() == {attempt.entry}
        await asyncio.sleep(0.05)
        assert outbox.entries() == {attempt.entry}
        await own_office.db.client_unpause()
        await outbox.flush()
        assert outbox.entries() == set()


async def test_nothing_is_lost_or_doubled_while_the_server_is_away(
    own_valkey: ValkeyServer, own_office: Office
) -> None:
    outbox = own_office.outbox
    for job_id in "ab":
        await own_office.begin(job_id)
    async with running(outbox):
        say(outbox, "a", 0, 10)
        await outbox.flush()
        own_valkey.kill()
        for token in range(10, 60):
            say(outbox, "a", token, token + 1)
            say(outbox, "b", token - 10, token - 9)
            await asyncio.sleep(0.005)
        outbox.done("a", ("stop",), 1)
        flushing = asyncio.create_task(outbox.flush())
        await asyncio.sleep(0.1)
        assert not flushing.done()
        own_valkey.start()
        say(outbox, "b", 50, 60)
        async with asyncio.timeout(30):
            await flushing
            await outbox.flush()
    a, b = [await own_office.answer(job_id) for job_id in "ab"]
    assert list(a.tokens) == list(b.tokens) == list(range(60))
    assert isinstance(a.end, Done)
    assert await own_office.state_of("a") == "done"


async def test_what_the_server_acknowledged_and_lost_is_published_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.begin("a")
    failures = iter([RedisConnectionError("it was killed")])

    async def killed_once(*arguments: Any) -> None:
        for error in failures:
            raise error
        await publish(*arguments)

    async with running(office.outbox):
        for token in range(3):
            say(office.outbox, "a", token, token + 1)
            await office.outbox.flush()
        key = office.streams["g"].key
        newest = await office.db.xrevrange(key, count=2)
        assert await office.db.xdel(key, *(entry for entry, _ in newest)) == 2
        monkeypatch.setattr(frames_module, "publish", killed_once)
        say(office.outbox, "a", 3, 5)
        await office.outbox.flush()
        once = len(await office.envelopes())
        say(office.outbox, "a", 5, 6)
        await office.outbox.flush()
        assert len(await office.envelopes()) == once + 1, "they go out again only once"
    assert list((await office.answer("a")).tokens) == list(range(6))


async def test_frames_whose_reply_was_lost_are_repeated_and_read_once(office: Office) -> None:
    await office.begin("a")
    say(office.outbox, "a", 0, 3)
    async with running(office.outbox):
        await office.outbox.flush()
        ((_, fields),) = await office.db.xrevrange(office.streams["g"].key, count=1)
        await office.db.xadd(office.streams["g"].key, fields)
        say(office.outbox, "a", 3, 5)
        await office.outbox.flush()
    answer = await office.answer("a")
    assert len(answer.envelopes) == 4 + 4 + 2
    assert list(answer.tokens) == list(range(5))


async def test_a_flush_returns_though_the_engine_never_pauses(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.begin("a")
    outbox = office.outbox
    tokens = itertools.count()

    def talk() -> int:
        said = next(tokens)
        say(outbox, "a", said, said + 1)
        return said

    async def publish_while_it_talks(db: Redis, frames: list[tuple[str, bytes]]) -> None:
        talk()
        await publish(db, frames)
        talk()

    monkeypatch.setattr(frames_module, "publish", publish_while_it_talks)
    async with running(outbox):
        for _ in range(20):
            said = talk()
            await asyncio.wait_for(outbox.flush(), 20)
            assert len((await office.answer("a")).tokens) > said


async def test_a_flush_of_nothing_returns_at_once(office: Office) -> None:
    await asyncio.wait_for(office.outbox.flush(), 20)
    async with running(office.outbox):
        await asyncio.wait_for(office.outbox.flush(), 20)


async def test_fenced_ends_are_counted(office: Office) -> None:
    await office.begin("a")
    await office.db.hset(office.queue.job_key("a"), "attempt", 2)
    async with running(office.outbox):
        office.outbox.done("a", ("stop",), 1)
        await office.outbox.flush()
    assert office.outbox.fenced_total == 1
    assert await office.state_of("a") == "running"


async def resumed(office: Office, text: str, tokens: list[int]) -> Outbox:
    """Return an outbox with an open answer of which a client has this much."""
    await office.begin("a")
    office.outbox.resume("a", Published(text, tuple(tokens), next_seq=len(tokens)))
    return office.outbox


async def test_what_the_client_has_is_not_sent_again_across_any_chunks(office: Office) -> None:
    outbox = await resumed(office, "hello", [1, 2])
    outbox.suppress("a", "lo", tokens=1)
    outbox.delta("a", "l", [2])
    outbox.delta("a", "", [3])
    outbox.delta("a", "o wor", [4])
    outbox.delta("a", "ld", [5])
    outbox.done("a", ("stop",), 1)
    async with running(outbox):
        await outbox.flush()
    envelopes = [each for each in await office.envelopes() if not isinstance(each.event, Started)]
    assert [each.seq for each in envelopes] == [2, 3, 4]
    deltas = [each.event for each in envelopes if isinstance(each.event, Delta)]
    assert [(each.text, list(array("I", each.tokens))) for each in deltas] == [
        (" wor", [3, 4]),
        ("ld", [5]),
    ]
    assert isinstance(envelopes[-1].event, Done)
    assert envelopes[-1].event.completion_tokens == 5


async def test_tokens_other_than_those_published_are_sent_from_the_first_of_them_on(
    office: Office,
) -> None:
    outbox = await resumed(office, "hello", [1, 2, 3])
    outbox.suppress("a", "lo", tokens=1)
    outbox.delta("a", "lo w", [2, 9])
    outbox.delta("a", "orld", [2])
    async with running(outbox):
        await outbox.flush()
    deltas = [event for event in events(await office.envelopes()) if isinstance(event, Delta)]
    assert [list(array("I", delta.tokens)) for delta in deltas] == [[9], [2]]


@pytest.mark.parametrize("chunks", [["help"], ["hel", "p"], ["x"], ["hell", "a lot more"]])
async def test_an_engine_that_says_something_else_ends_the_answer_and_is_stopped(
    office: Office, chunks: list[str]
) -> None:
    outbox = await resumed(office, "hello", [1])
    outbox.suppress("a", "hello")
    for chunk in chunks:
        outbox.delta("a", chunk, [9])
    outbox.delta("a", "too late", [9])
    async with running(outbox):
        await outbox.flush()
    last = (await office.envelopes())[-1]
    assert isinstance(last.event, Failed)
    assert (last.event.code, last.event.retryable, last.seq) == (ErrorCode.ENGINE_LOST, True, 1)
    assert outbox.take_abandoned() == ["a"]
    assert outbox.take_abandoned() == []
    assert await office.state_of("a") == "retryable"


async def test_an_engine_that_ends_before_it_said_what_the_client_has_fails_the_answer(
    office: Office,
) -> None:
    outbox = await resumed(office, "hello", [1])
    outbox.suppress("a", "hello")
    outbox.delta("a", "hell", [1])
    outbox.done("a", ("stop",), 1)
    async with running(outbox):
        await outbox.flush()
    assert isinstance((await office.envelopes())[-1].event, Failed)


async def test_waiting_for_a_word_ends_when_something_new_was_published(office: Office) -> None:
    outbox = await resumed(office, "hello", [1])
    outbox.suppress("a", "hello")
    async with running(outbox):
        waiting = asyncio.create_task(outbox.wait_for_word("a"))
        outbox.delta("a", "hello", [1])
        await outbox.flush()
        await asyncio.sleep(0.02)
        assert not waiting.done()
        outbox.delta("a", "!", [2])
        await asyncio.wait_for(waiting, 20)
        assert (await office.envelopes())[-1].event == Delta("!", array("I", [2]).tobytes())


@pytest.mark.parametrize("end", ["settle", "withdraw"])
async def test_waiting_for_a_word_ends_with_the_answer(office: Office, end: str) -> None:
    await office.begin("a")
    outbox = office.outbox
    async with running(outbox):
        await outbox.flush()
        waiting = asyncio.create_task(outbox.wait_for_word("a"))
        await asyncio.sleep(0.02)
        if end == "settle":
            outbox.settle("a", "cancelled")
        else:
            outbox.withdraw("a")
        await asyncio.wait_for(waiting, 20)


async def test_an_engine_that_died_is_told_once_and_its_answers_stay_open(office: Office) -> None:
    await office.begin("a")
    office.outbox.engine_died(RuntimeError("first"))
    office.outbox.engine_died(RuntimeError("second"))
    with pytest.raises(EngineDied, match="RuntimeError: first"):
        await office.outbox.died
    assert "a" in office.outbox


async def test_totals_grow_with_each_answer(office: Office) -> None:
    outbox = office.outbox
    for job_id in "ab":
        await office.begin(job_id)
        say(outbox, job_id, 0, 3)
        outbox.done(job_id, ("stop",), prompt_tokens=4)
    totals = (outbox.jobs_total, outbox.prompt_tokens_total, outbox.generated_tokens_total)
    assert totals == (2, 8, 6)


async def test_tokens_count_while_their_answer_runs(office: Office) -> None:
    outbox = office.outbox
    await office.begin("a")
    outbox.expect("a", 4)
    assert (outbox.prompt_tokens_total, outbox.generated_tokens_total) == (0, 0)
    say(outbox, "a", 0, 3)
    assert (outbox.prompt_tokens_total, outbox.generated_tokens_total) == (4, 3)
    say(outbox, "a", 3, 5)
    outbox.done("a", ("stop",), prompt_tokens=4)
    assert (outbox.prompt_tokens_total, outbox.generated_tokens_total) == (4, 5)


async def test_what_fails_or_is_cancelled_counts_as_far_as_it_came(office: Office) -> None:
    outbox = office.outbox
    for job_id in "abc":
        await office.begin(job_id)
        outbox.expect(job_id, 10)
    say(outbox, "a", 0, 3)
    outbox.failed("a", ErrorCode.ENGINE_FAILED, "scripted")
    say(outbox, "b", 0, 2)
    outbox.settle("b", "cancelled")
    outbox.failed("c", ErrorCode.ENGINE_FAILED, "before its first token")
    assert (outbox.prompt_tokens_total, outbox.generated_tokens_total) == (20, 5)


@pytest.mark.parametrize(("pieces", "tokens", "counted"), [(3, 7, 7), (3, 3, 3), (3, 2, 3)])
async def test_pieces_stand_for_tokens_until_their_number_is_known(
    office: Office, pieces: int, tokens: int, counted: int
) -> None:
    """A counter never goes back, even where one token came in two pieces."""
    outbox = office.outbox
    await office.begin("a")
    for _ in range(pieces):
        outbox.delta("a", "x", ())
        outbox.count_piece("a")
    assert outbox.generated_tokens_total == pieces
    outbox.done("a", ("stop",), prompt_tokens=4, completion_tokens=tokens)
    assert (outbox.prompt_tokens_total, outbox.generated_tokens_total) == (4, counted)


@pytest.mark.parametrize("size", [1, 100_000, 300_000])
def test_a_frame_is_bounded_in_envelopes_and_bytes(size: int) -> None:
    envelopes = [Envelope("a", 1, seq, Delta("x" * size, b"")) for seq in range(20)]
    frames = list(frames_module.frames_of(envelopes))
    assert [envelope for frame in frames for envelope in decode_frame(frame)] == envelopes
    for frame in frames:
        assert len(frame) <= max(frames_module._LARGEST_FRAME_BYTES, size + 100)
    if size == 1:
        assert len(frames) == 1


def test_many_envelopes_are_several_frames() -> None:
    envelopes = [Envelope("a", 1, seq, Delta("", b"")) for seq in range(10_000)]
    frames = list(frames_module.frames_of(envelopes))
    assert [envelope for frame in frames for envelope in decode_frame(frame)] == envelopes
    assert 3 <= len(frames) <= 4


async def test_a_job_with_a_trace_tells_its_worker_and_the_engines_times(office: Office) -> None:
    outbox = office.outbox
    async with running(outbox):
        for job_id, trace in (("traced", TraceContext("00-1-2-01")), ("plain", None)):
            await office.begin(job_id, trace=trace)
            outbox.submitting(job_id)
            outbox.expect(job_id, 3)
            say(outbox, job_id, 0, 2)
            outbox.done(job_id, ("stop",), 3)
        await outbox.flush()
    envelopes = await office.envelopes()
    said = {name: [e.event for e in envelopes if e.job_id == name] for name in ("traced", "plain")}
    started, *_, ended = said["traced"]
    assert isinstance(started, Started) and isinstance(ended, Done)
    assert started.worker == "w"
    assert started.claimed_us_ago > 0
    times = ended.times
    assert times is not None and times.first_us is not None
    assert 0 <= times.submitted_us <= times.first_us <= times.ended_us
    started, *_, ended = said["plain"]
    assert isinstance(ended, Done)
    assert (started, ended.times) == (Started(), None)
