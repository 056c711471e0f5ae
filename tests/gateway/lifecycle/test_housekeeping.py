"""Which open replies a gateway process looks at, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from contract.config import LimitsConfig
from contract.keys import KeyRecord
from contract.messages import Delta, Envelope, Started, State
from gateway.api.native.wire import NativeStream
from gateway.http.headers import RequestContext
from gateway.jobs.availability import ModelAvailability
from gateway.lifecycle.housekeeping import DeadlineMonitor, scan_pace_s
from gateway.streams.answers import StreamAnswer
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply
from gateway.streams.sse import HEARTBEAT_EVERY_S

UNUSED: Any = None


@pytest.mark.parametrize(
    ("replies", "pace_s"), [(0, 0.25), (2_500, 0.25), (5_000, 0.5), (10_000, 1.0), (99_999, 1.0)]
)
def test_many_replies_are_looked_at_less_often(replies: int, pace_s: float) -> None:
    assert scan_pace_s(replies) == pytest.approx(pace_s)


class Models:
    """One that is ready."""

    def __init__(self) -> None:
        self.limits = LimitsConfig(queue_timeout_s=100, first_token_timeout_s=2)
        self.ready = frozenset({"m"})

    def status(self, model: str) -> ModelAvailability:
        return ModelAvailability(State.READY if model in self.ready else State.STARTING)

    def ended(self, model: str) -> str:
        return ""


class Desk:
    """A monitor, and one reply that it has looked at."""

    def __init__(self) -> None:
        self.models, self.link, metrics = Models(), Link(), Metrics()
        self.keys = SimpleNamespace(reads=0, refresh=lambda: None, is_live=lambda record: True)
        self.dispatcher = Dispatcher(UNUSED, UNUSED, self.link, UNUSED, metrics)
        context = RequestContext(UNUSED)
        answer = StreamAnswer(NativeStream("m", "job"), "request")
        self.reply = Reply("job", "m", answer, context, metrics.of("m"), "0", resumable=False)
        self.dispatcher.open(self.reply)
        models: Any = self.models
        keys: Any = self.keys
        self._monitor = DeadlineMonitor(self.dispatcher, models, self.link, keys)

    def due(self, now: float) -> list[Reply]:
        return self._monitor._due(now)

    async def look(self, now: float) -> None:
        await self._monitor._look_at_all(self.due(now), now, 0.0)

    def hear(self, seq: int, event: Any) -> None:
        self.dispatcher.hand_out([Envelope("job", 1, seq, event)])


async def test_a_reply_that_waits_is_left_alone_until_its_client_is_to_hear_something() -> None:
    desk, now = Desk(), time.monotonic()
    assert desk.due(now) == [desk.reply]
    await desk.look(now)
    for round_number in range(3):
        spoke_at = desk.reply.spoke_at
        assert desk.due(spoke_at + HEARTBEAT_EVERY_S - 0.1) == []
        assert desk.due(spoke_at + HEARTBEAT_EVERY_S) == [desk.reply]
        await desk.look(spoke_at + HEARTBEAT_EVERY_S)
        assert desk.reply.answer is not None
        assert desk.reply.answer.writer.gathered.count(b": heartbeat") == round_number + 1


async def test_a_reply_is_looked_at_when_its_timeout_is_due() -> None:
    desk, now = Desk(), time.monotonic()
    desk.reply.may_wait_s = 3
    await desk.look(now)
    assert desk.due(desk.reply.since + 2.9) == []
    assert desk.due(desk.reply.since + 3) == [desk.reply]


async def test_a_reply_whose_client_has_left_is_looked_at_for_its_timeouts_alone() -> None:
    desk, now = Desk(), time.monotonic()
    desk.reply.leave()
    await desk.look(now)
    assert desk.reply.look_at == pytest.approx(desk.reply.since + 100)


async def test_a_reply_is_looked_at_when_its_key_expires() -> None:
    desk, now = Desk(), time.monotonic()
    expires = time.time() + 5
    desk.reply.context.key = KeyRecord("id", "name", "digest", expires_unix_s=expires)
    await desk.look(now)
    assert desk.reply.look_at == pytest.approx(now + 5, abs=1)


def _limits(desk: Desk) -> None:
    desk.models.limits = LimitsConfig(queue_timeout_s=1)


def _keys(desk: Desk) -> None:
    desk.keys.reads += 1


def _link(desk: Desk) -> None:
    desk.link.failed(OSError())


def _model(desk: Desk) -> None:
    desk.models.ready = frozenset()


def _began(desk: Desk) -> None:
    desk.hear(0, Started())


def _first_token(desk: Desk) -> None:
    desk.reply.attempt = 1
    desk.hear(0, Delta("a", b""))


def _half_closed(desk: Desk) -> None:
    desk.reply.speak_soon()


@pytest.mark.parametrize(
    "happen", [_limits, _keys, _link, _model, _began, _first_token, _half_closed]
)
async def test_what_happens_is_looked_at_at_once(happen: Callable[[Desk], None]) -> None:
    desk, now = Desk(), time.monotonic()
    await desk.look(now)
    assert desk.due(now) == []
    happen(desk)
    assert desk.due(now) == [desk.reply]


def test_the_link_says_since_when_it_is_up() -> None:
    link = Link()
    assert link.up_for_s() == math.inf
    link.failed(OSError())
    assert link.up_for_s() == 0
    link.worked()
    assert link.up_for_s() < 10
