"""A defect in the handling of one reply, and the replies beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from contract.messages import Delta, Envelope, Started
from gateway.api.native.wire import NativeStream
from gateway.http.headers import RequestContext
from gateway.streams.answers import StreamAnswer
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply
from gateway.streams.writer import Client


class Cancelled:
    """Stands where the `Canceller` does, and remembers."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def cancel(self, model: str, job_id: str) -> None:
        self.jobs.append(job_id)


class Connection:
    """A client that reads all, and its answer."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics, job_id: str) -> None:
        self.got = b""
        self.aborted = False
        self.fails = False
        self.answer = StreamAnswer(_Stream(job_id), job_id)
        context = RequestContext(self.send)
        self.reply = Reply(job_id, "m", self.answer, context, metrics.of("m"), "0", resumable=False)
        dispatcher.open(self.reply)
        self.answer.writer.attach(Client(self.send, self.send, self.abort))

    async def send(self, message: Message) -> None:
        if self.fails:
            await asyncio.sleep(0)
            raise RuntimeError("a defect of the server")
        self.got += message.get("body", b"")

    def abort(self) -> None:
        self.aborted = True


class _Stream(NativeStream):
    """Fails where the text says so."""

    def __init__(self, job_id: str) -> None:
        super().__init__("m", job_id)

    def delta(self, seq: int, delta: Delta) -> bytes:
        if delta.text == "defect":
            raise KeyError(delta.text)
        return super().delta(seq, delta)


@pytest.fixture
def cancelled() -> Cancelled:
    return Cancelled()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def dispatcher(cancelled: Cancelled, metrics: Metrics) -> Dispatcher:
    unused: Any = None
    canceller: Any = cancelled
    return Dispatcher(unused, unused, Link(), canceller, metrics)


def envelopes(*jobs: str, text: str, seq: int = 0) -> list[Envelope]:
    return [Envelope(job, 1, seq, Delta(text, b"")) for job in jobs]


async def test_a_defect_in_one_answer_ends_that_answer_alone(
    dispatcher: Dispatcher, metrics: Metrics, cancelled: Cancelled
) -> None:
    broken, sound = (Connection(dispatcher, metrics, job) for job in ("broken", "sound"))
    dispatcher.hand_out([Envelope(job, 1, 0, Started()) for job in ("broken", "sound")])
    dispatcher.hand_out(envelopes("broken", text="defect") + envelopes("sound", text="a"))
    assert broken.aborted
    assert cancelled.jobs == ["broken"]
    assert dispatcher.replies == [sound.reply]
    assert b'"text":"a"' in sound.got


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_defect_while_an_answer_is_sent_ends_that_answer_alone(
    dispatcher: Dispatcher, metrics: Metrics, at_once: bool
) -> None:
    broken, sound = (Connection(dispatcher, metrics, job) for job in ("broken", "sound"))
    dispatcher.hand_out([Envelope(job, 1, 0, Started()) for job in ("broken", "sound")])
    if at_once:

        async def fail(message: Message) -> None:
            raise RuntimeError("a defect of the server")

        broken.answer.writer.attach(Client(fail, fail, broken.abort))
    else:
        broken.fails = True
    dispatcher.hand_out(envelopes("broken", "sound", text="a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert broken.aborted
    assert not sound.aborted
    dispatcher.hand_out(envelopes("broken", "sound", text="b", seq=1))
    assert b'"text":"b"' in sound.got


async def test_the_reader_makes_way_before_each_read() -> None:
    unused: Any = None
    happened: list[str] = []

    class Stream:
        key = "ew:out:g"

        async def open(self) -> str:
            return "0-0"

    class Reader:
        """Has no frames."""

        async def ask(self, *command: Any) -> Any:
            happened.append("read")
            if happened.count("read") == 3:
                dispatcher.stop()
            return None

    async def make_way(took_s: float) -> None:
        happened.append("way")

    stream: Any = Stream()
    reader: Any = Reader()
    reader.direct = reader
    dispatcher = Dispatcher(stream, reader, Link(), unused, Metrics())
    dispatcher.make_way = make_way
    await dispatcher.run()
    assert happened == ["way", "read"] * 3
