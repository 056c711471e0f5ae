"""The handling, by a reply, of events that do not come as usual."""

from __future__ import annotations

import pytest
from starlette.types import Message

from contract.messages import Delta, Done, Event, Started
from gateway.api.native.wire import NativeStream
from gateway.http.headers import RequestContext
from gateway.streams.answers import StreamAnswer
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply
from gateway.streams.sse import NOTHING, EventId

#: An attempt, a sequence number, and an event: its text, or what it is.
Said = tuple[int, int, str | Event]
DONE = Done(("stop",), 1, 3)


async def nowhere(message: Message) -> None: ...


def hear(*said: Said, after: EventId = NOTHING) -> tuple[Reply, list[str]]:
    """Return a reply that has taken all this, and the texts that it would send."""
    answer = StreamAnswer(NativeStream("m", "r"), "r", after.seq)
    figures = Metrics().of("m")
    reply = Reply(
        "j", "m", answer, RequestContext(nowhere), figures, "0", resumable=True, after=after
    )
    for attempt, seq, what in said:
        event = Delta(what, b"abcd") if isinstance(what, str) else what
        reply.take(attempt, seq, event, 1.0)
    lines = answer.writer.gathered.decode().splitlines()
    return reply, [line[15:-2] for line in lines if line.startswith('data: {"text":')]


def test_each_text_counts_once_and_in_order() -> None:
    usual: list[Said] = [(7, 0, Started()), (7, 0, "a"), (7, 1, "b"), (7, 1, "b"), (7, 0, "a")]
    reply, texts = hear(*usual, (7, 2, "c"), (7, 3, DONE), (7, 4, "late"))
    assert (texts, reply.tokens, reply.end) == (["a", "b", "c"], 3, DONE)


@pytest.mark.parametrize(
    "said",
    [
        [(7, 0, "a"), (7, 2, "c"), (7, 1, "b, which comes too late")],
        [(8, 0, "an attempt that has not begun")],
        [(7, 0, "a"), (8, 0, Started()), (8, 0, "another beginning")],
    ],
)
def test_a_gap_ends_it(said: list[Said]) -> None:
    reply, texts = hear((7, 0, Started()), *said)
    assert (reply.ended, reply.failed_with) == (True, "lost")
    assert texts in (["a"], [])


def test_an_attempt_that_was_fenced_off_is_not_heard() -> None:
    reply, texts = hear(
        (7, 0, Started()), (7, 0, "a"), (8, 0, Started()), (7, 1, "x"), (8, 1, "b"), (7, 2, DONE)
    )
    assert (texts, reply.next_seq, reply.ended) == (["a", "b"], 2, False)


def test_a_client_gets_what_it_has_not() -> None:
    said: list[Said] = [(7, 0, Started()), (7, 0, "a"), (7, 1, "b"), (7, 2, "c")]
    reply, texts = hear(*said, after=EventId(1, 7))
    assert (texts, reply.ended, reply.goes_on) == (["c"], False, True)


def test_a_text_that_its_client_has_otherwise_ends_it() -> None:
    """Its events were lost with a server, and a later attempt has begun again."""
    reply, texts = hear((9, 0, Started()), (9, 0, "A"), after=EventId(1, 7))
    assert (texts, reply.failed_with) == ([], "lost")
