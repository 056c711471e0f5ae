"""A worker whose places are all taken makes room: for other keys, and for whatever is no batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from contract.asked import Guided, Turn
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, Waiting
from contract.bus.turns import place_of
from contract.messages import Job, Sampling, Started, Status
from tests.waiting import BUSY
from tests.workers.client import Client
from tests.workers.read_answer import assert_counted
from tests.workers.worker_processes import a_spec
from workers.claims.places import gives_way
from workers.engines.mock import MockEngine
from workers.worker import Worker

SLOTS = 4


def a_job(name: str, turn: Turn, number: int = 0) -> Job:
    return Job(f"{name}{number}", "m", Sampling(max_tokens=9), prompt="x", key_id=name, turn=turn)


def attempts(*jobs: Job, aged: bool = False) -> list[Attempt]:
    return [Attempt(job, "1-0", number, "r", "0", aged=aged) for number, job in enumerate(jobs, 1)]


keys, turns = (
    st.sampled_from("abc"),
    st.builds(
        Turn,
        priority=st.sampled_from(["interactive", "normal", "batch"]),
        weight=st.sampled_from([0.5, 1.0, 4.0]),
    ),
)


@given(st.lists(st.tuples(keys, turns), min_size=1, max_size=12), keys, turns)
def test_making_room_comes_to_an_end(held: list[tuple[str, Turn]], key: str, turn: Turn) -> None:
    """A job that made room for another does not get its place back from it: both would only be
    moved."""
    weights = {name: each.weight for name, each in reversed(held)} | {key: turn.weight}
    held = [(name, msgspec.structs.replace(each, weight=weights[name])) for name, each in held]
    running = attempts(*(a_job(name, each, n) for n, (name, each) in enumerate(held)))
    waiting = a_job(key, turn, 99)
    loser = gives_way(place_of(waiting), running, running)
    if loser is None:
        return
    (lost,) = (each for each in running if each.job.id == loser)
    after = [*attempts(waiting), *(each for each in running if each is not lost)]
    winner_moves = gives_way(place_of(lost.job), after, after) == waiting.id
    assert not winner_moves


def test_batch_makes_room_for_others_and_the_last_begun_first() -> None:
    batch = attempts(*(a_job("a", Turn("batch"), n) for n in range(3)))
    person = place_of(a_job("a", Turn()))
    assert gives_way(person, batch, batch) == "a2"
    assert gives_way(person, batch, batch[:2]) == "a1"
    assert gives_way(place_of(a_job("a", Turn("batch"))), batch, batch) is None


def test_what_got_its_turn_by_age_keeps_it() -> None:
    aged = attempts(a_job("a", Turn("batch")), aged=True)
    assert gives_way(place_of(a_job("b", Turn())), aged, aged) is None


def test_a_key_makes_room_until_the_other_has_its_share() -> None:
    many = attempts(*(a_job("a", Turn(), n) for n in range(4)))
    assert gives_way(place_of(a_job("b", Turn())), many, many) == "a3"
    even = [*many[:2], *attempts(*(a_job("b", Turn(), n) for n in range(2)))]
    assert gives_way(place_of(a_job("b", Turn())), even, even) is None
    heavy = place_of(a_job("b", Turn(weight=3.0)))
    assert gives_way(heavy, many[:2] + even[2:], many[:2]) == "a1"
    alone = attempts(a_job("a", Turn()))
    assert gives_way(place_of(a_job("b", Turn())), alone, alone) is None


@pytest.fixture
async def worker(client: Client) -> AsyncIterator[Worker]:
    spec = a_spec(client, "w", slots=SLOTS, drain_s=0.0)
    made = Worker(spec, MockEngine(spec))
    task = asyncio.create_task(made.run())
    yield made
    made.stop()
    await task


async def ask(client: Client, key: str, tokens: int, turn: Turn | None = None) -> str:
    job = msgspec.structs.replace(client.job(tokens), key_id=key, turn=turn or Turn())
    await client.put(job)
    return job.id


async def test_forty_requests_of_one_key_do_not_hold_up_another(
    client: Client, worker: Worker
) -> None:
    """The other's first token comes within twice the time that it takes in an empty system."""

    async def first_token_s() -> float:
        began = time.monotonic()
        job_id = await ask(client, "b", 3)
        await client.saw_tokens([job_id], 1)
        elapsed_s = time.monotonic() - began
        await client.ended([job_id])
        return elapsed_s

    await client.see(lambda: worker.ready_after_s is not None)
    script = worker.engine._script.__dict__  # type: ignore[attr-defined]
    script["first_token_delay_s"] = 0.25
    empty_s = max([await first_token_s() for _ in range(2)])
    flood = [await ask(client, "a", 60) for _ in range(40)]
    await client.see(lambda: len(worker.outbox) == SLOTS)
    # One of them may fall into a moment in which this process does not run.
    assert min([await first_token_s() for _ in range(2)]) < 2 * empty_s
    # The one that made room goes on later, after the tokens that its client has.
    await client.ended(flood[:SLOTS])
    for job_id in flood[:SLOTS]:
        assert_counted(client.answers[job_id], 60)
    await Cancellations(client.db, client.queue.model).announce_all(flood)


async def test_a_batch_fills_what_people_leave_and_makes_room_within_a_second(
    client: Client, worker: Worker
) -> None:
    batch = [await ask(client, "a", 150, Turn("batch")) for _ in range(2 * SLOTS)]
    await client.see(lambda: len(worker.outbox) == SLOTS)
    await client.saw_tokens(batch[:SLOTS], 1)
    began = time.monotonic()
    people = [await ask(client, "a", 40) for _ in range(SLOTS)]
    await client.saw_tokens(people, 1)
    assert time.monotonic() - began < 1.0 * BUSY
    moved = {e.job_id for e in client.envelopes if isinstance(e.event, Status)}
    assert 0 < len(moved) <= SLOTS
    assert moved <= set(batch)
    await client.ended([*people, *batch])
    for job_id in batch:
        assert_counted(client.answers[job_id], 150)


async def test_what_cannot_go_on_later_is_not_moved(client: Client, worker: Worker) -> None:
    batch = client.job(60)
    chosen = msgspec.structs.replace(
        batch.sampling, guided=Guided("choice", '["a"]'), temperature=0.7
    )
    for number in range(SLOTS):
        await client.put(
            msgspec.structs.replace(
                batch, id=f"batch{number}", sampling=chosen, turn=Turn("batch"), key_id="a"
            )
        )
    ids = [f"batch{number}" for number in range(SLOTS)]
    await client.saw_tokens(ids, 1)
    person = await ask(client, "b", 2)
    await client.ended([person, *ids])
    starts = [e.job_id for e in client.envelopes if isinstance(e.event, Started)]
    assert sorted(starts) == sorted([*ids, person])


async def test_an_answer_that_ends_while_the_queue_is_asked_makes_no_room(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = worker.consumer._places
    await client.see(lambda: worker.ready_after_s is not None)
    job_id = await ask(client, "a", 500, Turn("batch"))
    await client.saw_tokens([job_id], 1)

    async def peek_late() -> Waiting:
        worker.outbox.withdraw(job_id)
        return Waiting("0-1", place_of(a_job("b", Turn())))

    monkeypatch.setattr(places._queue, "peek", peek_late)
    places.asked.set()
    await places.make_room()
    assert places.yielded_total == 0
