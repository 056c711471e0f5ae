"""Reply streams that are followed, at the moment at which their reader leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from starlette.types import Message

from contract.bus.client import connect_reader
from contract.bus.replies import ReplyStream, publish
from contract.bus.tickets import Ticket
from contract.messages import Done, Envelope, Started
from contract.wire import encode_frame
from gateway.api.native.wire import NativeStream
from gateway.http.headers import RequestContext
from gateway.streams.answers import StreamAnswer
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.replays import Replays
from gateway.streams.reply import Reply
from tests.waiting import until


async def _send(message: Message) -> None:
    """Nothing is written to a client."""


def _reply_to(job_id: str, metrics: Metrics) -> Reply:
    answer = StreamAnswer(NativeStream("m", job_id), job_id)
    of_model = metrics.of("m")
    return Reply(job_id, "m", answer, RequestContext(_send), of_model, "0", resumable=False)


async def test_a_reply_that_joins_while_a_reader_leaves_is_served_by_the_next(
    db: Redis, redis_url: str, unique_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves, may_leave = asyncio.Event(), asyncio.Event()

    def reader_that_takes_its_time(url: str) -> Redis:
        client = connect_reader(url)
        close = client.aclose

        async def close_slowly() -> None:
            leaves.set()
            await may_leave.wait()
            await close()

        monkeypatch.setattr(client, "aclose", close_slowly)
        return client

    monkeypatch.setattr("gateway.streams.replays.connect_reader", reader_that_takes_its_time)
    unused: Any = None
    metrics = Metrics()
    dispatcher = Dispatcher(unused, unused, Link(), unused, metrics)
    replays = Replays(db, redis_url, dispatcher)
    stream = ReplyStream(db, unique_model)
    await stream.open()

    async def publish_answer(job_id: str) -> None:
        ends = Done(("stop",), 1, 0)
        frame = [Envelope(job_id, 1, 0, Started()), Envelope(job_id, 1, 0, ends)]
        await publish(db, [(stream.key, encode_frame(frame))])

    first, second = (_reply_to(job_id, metrics) for job_id in ("a", "b"))
    await publish_answer("a")
    replays.follow(first, Ticket(stream.key, "0"))
    await leaves.wait()
    assert first.ended
    replays.follow(second, Ticket(stream.key, "0"))
    may_leave.set()
    await publish_answer("b")
    await until(lambda: second.ended)
    await replays.close()


async def test_a_reply_that_ended_while_its_job_was_put_is_not_followed(
    db: Redis, redis_url: str, unique_model: str
) -> None:
    """Its end would count twice."""
    unused: Any = None
    metrics = Metrics()
    dispatcher = Dispatcher(unused, unused, Link(), unused, metrics)
    replays = Replays(db, redis_url, dispatcher)
    reply = _reply_to("a", metrics)
    dispatcher.open(reply)
    dispatcher.hand_out(
        [Envelope("a", 1, 0, Started()), Envelope("a", 1, 0, Done(("stop",), 1, 0))]
    )
    assert reply.ended
    replays.follow(reply, Ticket(unique_model, "0"))
    assert reply not in dispatcher
    assert metrics.of("m").open == 0
    await replays.close()
