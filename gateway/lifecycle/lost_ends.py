"""Answers whose end will not come, after a failover to a replica that lagged: Redis says that their
job is over, or does not know it, though no end has been read; or an attempt runs that is numbered
below the one that was heard, as the replica's clock is behind, and which is not heard."""

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
from gateway.streams.link import Link
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)
#: An answer that hears something so often is well.
_SILENT_S: Final = 3.0
#: A failover breaks the connection to Redis, and shows for so long.
_DOUBTFUL_S: Final = 10.0
#: At other times, of those that wait, in one look.
_WAITING_AT_ONCE: Final = 256


class LostEnds:
    """Looks at answers that hear nothing: at all after Redis was away, else at some of those that
    wait, one after the other. An end is published before its job is over, so an answer that is
    found in two looks without it has lost it."""

    def __init__(self, db: RedisClient, dispatcher: Dispatcher, link: Link) -> None:
        self._db = db
        self._dispatcher = dispatcher
        self._link = link
        self._suspects: set[Reply] = set()
        #: How many of those that wait were looked at since the first of them.
        self._passed = 0

    async def look(self) -> None:
        """Fail those that were found before. Raises `RedisError`."""
        by_model: defaultdict[str, list[Reply]] = defaultdict(list)
        for reply in self._chosen():
            by_model[reply.model].append(reply)
        over: set[Reply] = set()
        for model, replies in by_model.items():
            ids = [each.job_id for each in replies]
            attempts = await JobQueue(self._db, model).current_attempts(ids)
            over.update(each for each in replies if _is_lost(each, attempts.get(each.job_id)))
        for reply in over & self._suspects:
            if not reply.ended:
                log.error("job %s: the end of its answer was lost", reply.job_id)
                error = ApiError(ErrorCode.LOST.value, "the end of the answer was lost")
                self._dispatcher.fail(reply, error)
        self._suspects = over

    def _chosen(self) -> set[Reply]:
        """Return those to ask about now."""
        heard_before = time.monotonic() - _SILENT_S
        silent = [
            reply
            for reply in self._dispatcher.replies
            if reply.heard_at < heard_before and reply.is_current
        ]
        if self._link.up_for_s() < _DOUBTFUL_S:
            return set(silent)
        waiting = [reply for reply in silent if not reply.attempt]
        if self._passed >= len(waiting):
            self._passed = 0
        some = waiting[self._passed : self._passed + _WAITING_AT_ONCE]
        self._passed += len(some)
        begun = (reply for reply in silent if reply.attempt)
        return self._suspects.intersection(silent).union(begun, some)


def _is_lost(reply: Reply, attempt: int | None) -> bool:
    """`attempt` is the number of the one that runs, 0 if the job waits, None if it is over."""
    return attempt is None or 0 < attempt < reply.attempt
