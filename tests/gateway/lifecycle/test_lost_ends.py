"""Which silent answers Redis is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.http.headers import RequestContext
from gateway.lifecycle import lost_ends
from gateway.lifecycle.lost_ends import LostEnds
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply

UNUSED: Any = None
SOME = lost_ends._WAITING_AT_ONCE


class Queue:
    """Answers as the queue of `m` would, and remembers what it was asked."""

    asked: Sequence[str] = ()
    over: frozenset[str] = frozenset()

    def __init__(self, db: object, model: str) -> None:
        assert model == "m"

    async def current_attempts(self, job_ids: Sequence[str]) -> dict[str, int]:
        Queue.asked = job_ids
        return {job_id: 0 for job_id in job_ids if job_id not in Queue.over}


class Cancelled:
    def cancel(self, model: str, job_id: str) -> None:
        """It is over."""


class Desk:
    """Three looks' worth of answers that wait, and one that has begun, all silent for long."""

    def __init__(self) -> None:
        self.link, metrics = Link(), Metrics()
        canceller: Any = Cancelled()
        dispatcher = Dispatcher(UNUSED, UNUSED, self.link, canceller, metrics)
        self.ends = LostEnds(UNUSED, dispatcher, self.link)
        self.replies = {}
        for number in range(2 * SOME + 2):
            name = f"job-{number}"
            context = RequestContext(UNUSED)
            reply = Reply(name, "m", UNUSED, context, metrics.of("m"), "0", resumable=False)
            reply.is_current, reply.heard_at = True, 0.0
            dispatcher.open(reply)
            self.replies[name] = reply
        self.replies["job-0"].attempt = 1

    async def asked(self) -> set[str]:
        await self.ends.look()
        return set(Queue.asked)


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_ends, "JobQueue", Queue)
    Queue.over = frozenset()


async def test_those_that_wait_are_asked_about_in_portions_and_those_that_began_always() -> None:
    desk = Desk()
    looks = [await desk.asked() for _ in range(3)]
    assert [len(each) for each in looks] == [SOME + 1, SOME + 1, 2]
    assert all("job-0" in each for each in looks)
    assert set().union(*looks) == set(desk.replies)
    assert await desk.asked() == looks[0]


async def test_all_are_asked_about_after_redis_was_away() -> None:
    desk = Desk()
    desk.link.failed(OSError())
    desk.link.worked()
    assert await desk.asked() == set(desk.replies)


async def test_one_that_is_over_is_asked_about_again_and_then_ends() -> None:
    desk = Desk()
    Queue.over = frozenset({"job-5"})
    lost = desk.replies["job-5"]
    await desk.asked()
    assert not lost.ended
    assert "job-5" in await desk.asked()
    assert (lost.ended, lost.failed_with) == (True, "lost")
