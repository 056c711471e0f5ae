"""Answers of a server behind the `openai` engine, and the answers that a client of ew is to see.

The streams are those that the engine itself is tested with; here are also the answers that are no
stream of events, or a slow one."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from tests.engines.openai.scripted_upstream import Exchange
from tests.engines.openai.test_odd_streams import (
    DONE,
    ERRORS,
    FINE,
    HELLO,
    NO_END,
    STOP,
    UNREADABLE,
    chunk,
    data,
    play,
)

Play = Callable[[Exchange], Awaitable[None]]

#: Between the pieces of a slow answer: others of the test come and go meanwhile.
_PAUSE_S: Final = 0.2
_JSON: Final = "application/json"


class Scenario(NamedTuple):
    """The server's acts, and then the text of the answer with the reason of its end, or the
    code of the error."""

    play: Play
    text: str = ""
    reason: str = "stop"
    error: str = ""


async def _compress(exchange: Exchange) -> None:
    await exchange.begin(200, "Content-Type: text/event-stream", "Content-Encoding: gzip")
    await exchange.send(gzip.compress(data(HELLO) + data(STOP) + DONE))
    await exchange.end()


async def _dawdle(exchange: Exchange) -> None:
    for piece in "slowly":
        await exchange.say(piece)
        await asyncio.sleep(_PAUSE_S)
    await exchange.finish()


def _refuse(status: int, body: Any = "", kind: str = _JSON, *headers: str) -> Play:
    text = body if isinstance(body, str) else json.dumps(body)

    async def answer(exchange: Exchange) -> None:
        await exchange.refuse(status, text, kind, *headers)

    return answer


def _reply(**document: Any) -> Play:
    return partial(Exchange.reply, body=json.dumps(document), kind=_JSON)


def _fails(play: Play) -> Scenario:
    return Scenario(play, error="upstream_failed")


_TOO_LONG: Final = {
    "object": "error",
    "message": "This model's maximum context length is 8 tokens, and the prompt has 9",
    "code": 400,
}
_WHOLE: Final = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}
_DOCUMENTS: Final[dict[str, Scenario]] = {
    "a redirect": _fails(_refuse(302, "", _JSON, "Location: http://127.0.0.1:9/login")),
    "a limit": _fails(_refuse(429, {"error": {"code": "rate_limit"}}, _JSON, "Retry-After: 7")),
    "a page about a failure": _fails(_refuse(500, "<html>oops</html>", "text/html")),
    "no words about a failure": _fails(_refuse(503)),
    "a prompt that is too long": Scenario(_refuse(400, _TOO_LONG), error="context_length_exceeded"),
    "no key": _fails(_refuse(401, {"error": "who are you?"})),
    "a whole answer": _fails(_reply(choices=[_WHOLE])),
    "an error that is called a success": _fails(_reply(error={"message": "busy", "code": 503})),
    "a page that is called a success": _fails(
        partial(Exchange.reply, body="<html>sign in</html>", kind="text/html")
    ),
    "compressed": Scenario(_compress, text="Hello"),
    "slow": Scenario(_dawdle, text="slowly"),
}
_OTHER_ENDS: Final[dict[str, Scenario]] = {
    "filtered": Scenario(
        play(HELLO, chunk(None, "content_filter"), DONE), "Hello", "content_filter"
    ),
    "two ends": Scenario(play(HELLO, chunk(None, "length"), STOP, DONE), "Hello", "length"),
}
_STREAMS: Final[dict[str, Scenario]] = {
    **{name: Scenario(play(*parts), text) for name, (parts, text) in FINE.items()},
    **{
        f"{kind}: {name}": _fails(play(*parts))
        for kind, found in (("no end", NO_END), ("error", ERRORS), ("unreadable", UNREADABLE))
        for name, parts in found.items()
    },
}
SCENARIOS: Final = _STREAMS | _OTHER_ENDS | _DOCUMENTS


async def play_named(exchange: Exchange) -> None:
    """Answer with the scenario whose name is the last message."""
    await SCENARIOS[exchange.body["messages"][-1]["content"]].play(exchange)
