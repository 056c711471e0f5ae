"""Answers whose end will not come: Redis says that their job is over, or does not know it, though
no end has been read. So it is after a failover to a replica that lagged."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from typing import Final

from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.messages import ErrorCode
from gateway.http.errors import ApiError
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)
#: An answer that hears something so often is well.
_SILENT_S: Final = 3.0


class LostEnds:
    """Looks at answers that hear nothing. An end is published before its job is over, so an
    answer that is found in two looks without it has lost it."""

    def __init__(self, db: RedisClient, dispatcher: Dispatcher) -> None:
        self._db = db
        self._dispatcher = dispatcher
        self._suspects: set[Reply] = set()

    async def look(self) -> None:
        """Fail those that were found before. Raises `RedisError`."""
        now = time.monotonic()
        silent: defaultdict[str, list[Reply]] = defaultdict(list)
        for reply in self._dispatcher.replies:
            if reply.is_current and now - reply.heard_at > _SILENT_S:
                silent[reply.model].append(reply)
        over: set[Reply] = set()
        for model, replies in silent.items():
            is_open = await JobQueue(self._db, model).are_open([each.job_id for each in replies])
            over.update(each for each in replies if not is_open[each.job_id])
        for reply in over & self._suspects:
            if not reply.ended:
                log.error("job %s is over, and its end was lost", reply.job_id)
                error = ApiError(ErrorCode.LOST.value, "the end of the answer was lost")
                self._dispatcher.fail(reply, error)
        self._suspects = over
