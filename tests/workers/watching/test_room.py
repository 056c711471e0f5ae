"""A job that can never be begun ends by itself: the others do not wait behind it for ever."""

from __future__ import annotations

import pytest

from contract.messages import ErrorCode, Failed
from tests.workers.client import Client
from tests.workers.test_worker import ByHand, working
from workers.engine_state import EngineLoad
from workers.watching import room
from workers.watching.room import RoomCheck

BLOCKED = {"waiting": 2, "running": 0}


def told(engine: ByHand, **load: int) -> None:
    engine.outbox.report_load(EngineLoad(**load))


async def test_the_longest_job_ends_when_nothing_runs_and_none_is_begun(client: Client) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        short, long = await client.ask(5), await client.ask(5)
        await client.see(lambda: len(engine.submitted) == 2)
        worker.outbox.expect(short, 100)
        worker.outbox.expect(long, 3000)
        check = RoomCheck(worker.outbox)
        for _ in range(int(room._PATIENCE_S)):
            assert {short, long} <= {each.job.id for each in worker.outbox.attempts()}
            told(engine, **BLOCKED)
            check.look(1.0)
        await client.ended([long])
        end = client.answers[long].end
        assert isinstance(end, Failed)
        assert end.code is ErrorCode.PROMPT_TOO_LONG
        assert "no room for these 3000 tokens" in end.message
        await client.see(lambda: engine.cancelled == [long])
        assert [each.job.id for each in worker.outbox.attempts()] == [short]


@pytest.mark.parametrize(
    "load",
    [
        {"waiting": 2, "running": 1},
        {"waiting": 0, "running": 0},
        # It may hold a part of the cache, and gives it back.
        {"waiting": 2, "running": 0, "deferred": 1},
        # An engine that does not say how many run.
        {"waiting": 2},
    ],
)
async def test_no_job_ends_that_may_still_be_begun(client: Client, load: dict[str, int]) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        await client.ask(5)
        await client.see(lambda: len(engine.submitted) == 1)
        check = RoomCheck(worker.outbox)
        for _ in range(20):
            told(engine, **load)
            check.look(1.0)
        assert len(worker.outbox) == 1


async def test_a_step_that_takes_long_is_no_want_of_room(client: Client) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        await client.ask(5)
        await client.see(lambda: len(engine.submitted) == 1)
        check = RoomCheck(worker.outbox)
        told(engine, **BLOCKED)
        for _ in range(20):
            check.look(1.0)
        assert len(worker.outbox) == 1
        # Time counts while it is told without a break, not the sum of all such times.
        for _ in range(int(room._PATIENCE_S) - 1):
            told(engine, **BLOCKED)
            check.look(1.0)
            told(engine, running=1)
            check.look(1.0)
        assert len(worker.outbox) == 1
