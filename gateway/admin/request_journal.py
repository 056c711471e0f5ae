"""The requests of this process, open ones and the last that ended, for operators."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final

from redis.exceptions import RedisError

from contract.bus.views.request_board import RequestBoard, RequestView
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply
from gateway.streams.reply_phase import ReplyPhase

log = logging.getLogger(__name__)
_EVERY_S: Final = 1.0
#: Of one process.
_MOST_ENDED: Final = 500
_MOST_OPEN: Final = 2000
_STATES: Final = {
    ReplyPhase.QUEUE: "waiting",
    ReplyPhase.FIRST_TOKEN: "starting",
    ReplyPhase.TOKENS: "streaming",
}


class RequestJournal:
    """Notes what ends, and writes all on the board while an operator looks."""

    def __init__(self, board: RequestBoard, process: str, dispatcher: Dispatcher) -> None:
        self._board = board
        self._process = process
        self._dispatcher = dispatcher
        self._ended: deque[RequestView] = deque(maxlen=_MOST_ENDED)
        dispatcher.on_close = self._note

    def requests(self) -> list[RequestView]:
        """Return those that are open, and then the last that ended."""
        still_open = self._dispatcher.replies[:_MOST_OPEN]
        return [*(_view(reply, _STATES[reply.phase]) for reply in still_open), *self._ended]

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                if await self._board.is_watched():
                    await self._board.write(self._process, self.requests())
            except (RedisError, OSError) as error:
                log.debug("the requests are not on the board: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def leave(self) -> None:
        """Take all of this process from the board. Raises `RedisError`."""
        await self._board.remove(self._process)

    def _note(self, reply: Reply) -> None:
        ended = "done" if reply.end else "left"
        self._ended.append(_view(reply, "failed" if reply.failed_with else ended))


def _view(reply: Reply, state: str) -> RequestView:
    key = reply.key
    total_s = time.monotonic() - reply.began
    return RequestView(
        job_id=reply.job_id,
        request_id=reply.request_id,
        model=reply.model,
        key_id=key.id if key else "",
        key_name=key.name if key else "",
        state=state,
        began_unix_s=time.time() - total_s,
        position=reply.position,
        attempts=reply.attempts,
        tokens=reply.tokens_counted + reply.tokens,
        queue_ms=reply.context.queue_ms,
        first_token_ms=reply.context.first_ms,
        total_ms=total_s * 1000,
        error=reply.failed_with,
    )
