"""The open replies of one gateway process, and the one task that reads their events from
Redis and hands them out."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.replies import KEEP_MS, ReplyStream, entry_order, read_frames
from contract.messages import ErrorCode
from contract.wire import EnvelopeParts
from gateway.http.errors import ApiError
from gateway.streams.cancelling import Canceller
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)
#: Short, so that the reader can be stopped without cancelling its command.
_BLOCK_MS: Final = 1_000
_SLOWEST_RECONNECT_S: Final = 1.0
#: How replies end though their worker knows nothing of it.
_OWN_FAILURES: Final = frozenset(
    {ErrorCode.LOST.value, ErrorCode.SLOW_CLIENT.value, "internal_error"}
)


class Dispatcher:
    """Every event reaches its reply once it has been read; after each read, every reply that
    got some is sent to its client in one piece."""

    def __init__(
        self,
        stream: ReplyStream,
        reader: RedisClient,
        link: Link,
        canceller: Canceller,
        metrics: Metrics,
    ) -> None:
        #: The last entry that was read; None until the reply stream is open.
        self.last: str | None = None
        self.draining = False
        self._stream = stream
        self._reader = reader
        self._link = link
        self._canceller = canceller
        self._metrics = metrics
        self._replies: dict[str, Reply] = {}
        #: Replies to jobs that another request has put, which are read by their replays.
        self._followed: set[Reply] = set()
        #: When a job that may be asked for again ended, and its first entry.
        self._kept: deque[tuple[float, str]] = deque()
        self._stopping = False
        #: Awaited before each read, with the seconds that it took to hand out what the last one
        #: brought: requests that come in this moment go first.
        self.make_way: Callable[[float], Awaitable[None]] = lambda took_s: asyncio.sleep(0)
        self._took_s = 0.0
        #: Called with each reply that is forgotten.
        self.on_close: Callable[[Reply], None] = lambda reply: None

    def __contains__(self, reply: Reply) -> bool:
        """Whether a reply is open."""
        return self._replies.get(reply.job_id) is reply or reply in self._followed

    def has_job(self, job_id: str) -> bool:
        """Whether a request of this process has put a job, and its answer is open."""
        return job_id in self._replies

    def __len__(self) -> int:
        return len(self._replies) + len(self._followed)

    @property
    def replies(self) -> list[Reply]:
        """All that are open."""
        return [*self._replies.values(), *self._followed]

    @property
    def reply_key(self) -> str:
        return self._stream.key

    def open(self, reply: Reply) -> None:
        """Hand events out to a reply. To be called before its job is put."""
        self._replies[reply.job_id] = reply
        self._metrics.of(reply.model).open += 1

    def follow(self, reply: Reply) -> None:
        """Look after a reply whose events come from a `FollowedStream`."""
        self._followed.add(reply)
        self._metrics.of(reply.model).open += 1

    def leave(self, reply: Reply) -> None:
        """The client is gone: drop the rest, unless it may come back for it."""
        if reply.ended:
            return
        reply.leave()
        if reply in self._followed:
            reply.ended = True
            self.close(reply)
        elif not reply.resumable:
            reply.ended = True
            self._canceller.cancel(reply.model, reply.job_id)
            self.close(reply)

    def fail(self, reply: Reply, error: ApiError, *, cancel: bool = True) -> None:
        """End a reply with an error, and its job unless that is to go on."""
        if not reply.ended:
            with self.guard(reply):
                reply.fail(error)
                reply.flush()
            if cancel and reply not in self._followed:
                self._canceller.cancel(reply.model, reply.job_id)
        self.close(reply)

    def fail_all(self, error: ApiError) -> None:
        """End all open replies. Jobs that may be asked for again go on."""
        for reply in self.replies:
            self.fail(reply, error, cancel=not reply.resumable)

    def close(self, reply: Reply) -> None:
        """Forget a reply that has ended."""
        if self._replies.get(reply.job_id) is reply:
            del self._replies[reply.job_id]
            if reply.end is not None:
                latency_s = time.monotonic() - reply.began
                self._metrics.count_answer(reply.model, reply.key_id, reply.end, latency_s)
            if reply.resumable and reply.attempt:
                self._kept.append((time.monotonic(), reply.first))
        elif reply in self._followed:
            self._followed.remove(reply)
        else:
            return
        reply.count_tokens()
        if reply.trace is not None and reply.ended:
            reply.trace.end(reply.end, reply.failed_with, reply.first_at, time.monotonic())
        self.on_close(reply)
        self._metrics.of(reply.model).open -= 1
        if reply.failed_with:
            self._metrics.count_failure(reply.model, reply.failed_with)
            log.warning(
                "request %s, job %s of %s, attempt %d: %s after %d events",
                reply.request_id,
                reply.job_id,
                reply.model,
                reply.attempt,
                reply.failed_with,
                reply.next_seq,
            )

    def hand_out(
        self, envelopes: Iterable[EnvelopeParts], find: Callable[[str], Reply | None] | None = None
    ) -> None:
        """Give each envelope to its reply, then send what each reply has got."""
        find = find or self._replies.get
        now = time.monotonic()
        touched: dict[str, Reply] = {}
        for job_id, attempt, seq, event in envelopes:
            reply = find(job_id)
            if reply is not None:
                touched[job_id] = reply
                # No `guard`: this is done once per token.
                try:
                    reply.take(attempt, seq, event, now)
                except Exception:
                    self._give_up(reply)
        self.flush(touched.values())

    @contextmanager
    def guard(self, reply: Reply) -> Iterator[None]:
        """Keep a defect in the handling of one reply from all others: it is logged, and ends
        this reply and its connection."""
        try:
            yield
        except Exception:
            self._give_up(reply)

    def flush(self, replies: Iterable[Reply]) -> None:
        """Send what each reply has got, and forget it if that was all."""
        for reply in replies:
            try:
                reply.flush()
                if reply.ended:
                    self._settle(reply)
            except Exception:
                self._give_up(reply)

    def _give_up(self, reply: Reply) -> None:
        """End a reply after a defect, which is being handled."""
        log.exception("job %s: its answer is given up", reply.job_id)
        reply.abandon()
        self._settle(reply)

    def _settle(self, reply: Reply) -> None:
        """Forget a reply that has ended. If it ended by our own doing, its job is not over and
        must be."""
        if reply.ended and reply in self:
            if reply.failed_with in _OWN_FAILURES and not reply.resumable:
                self._canceller.cancel(reply.model, reply.job_id)
            self.close(reply)

    def needed_from(self, now: float) -> str | None:
        """The first entry of the reply stream that an open answer, or one that may be asked
        for again, still needs; None if there is none."""
        while self._kept and now - self._kept[0][0] > KEEP_MS / 1000:
            self._kept.popleft()
        # One that may wait for hours needs nothing until it has begun: the stream must not grow
        # all the while.
        firsts = {
            reply.first for reply in self._replies.values() if reply.attempt or not reply.patience_s
        }
        firsts.update(first for _, first in self._kept)
        return min(firsts, key=entry_order, default=self.last)

    def stop(self) -> None:
        """Ask the reader to end, within a second or so."""
        self._stopping = True

    async def run(self) -> None:
        """Read and hand out until stopped. Never cancel it."""
        wait_s = 0.0
        while not self._stopping:
            try:
                await self._read()
            except (RedisError, OSError) as error:
                self._link.failed(error)
                wait_s = min(_SLOWEST_RECONNECT_S, wait_s * 2 + 0.02)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
            else:
                self._link.worked()
                wait_s = 0.0

    async def _read(self) -> None:
        if self.last is None:
            self.last = await self._stream.open()
        await self.make_way(self._took_s)
        lost, where = self._metrics.count_unreadable_frame, (self._stream.key, self.last)
        frames = await read_frames(self._reader, *where, block_ms=_BLOCK_MS, on_unreadable=lost)
        if frames:
            began = time.monotonic()
            self.hand_out(chain.from_iterable(envelopes for _, envelopes in frames))
            self.last, self._took_s = frames[-1][0], time.monotonic() - began
