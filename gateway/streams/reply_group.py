"""Replies that are read for together, and what was read in portions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from contract.wire import EnvelopeParts
from gateway.streams.reply import Reply

#: They are handed out in a few milliseconds.
ENVELOPES_AT_ONCE: Final = 256


class ReplyGroup:
    """In order of arrival. `on_end` is called for each that was found to have ended."""

    def __init__(self, on_end: Callable[[Reply], None]) -> None:
        self.replies: list[Reply] = []
        self._on_end = on_end
        self._layers: list[dict[str, Reply]] | None = None

    def __len__(self) -> int:
        return len(self.replies)

    def add(self, replies: Iterable[Reply]) -> None:
        self.replies += replies
        self._layers = None

    def take(self) -> list[Reply]:
        """All of them, which are in this group no longer."""
        taken, self.replies, self._layers = self.replies, [], None
        return taken

    def forget_ended(self) -> None:
        """Those that have."""
        ended = [reply for reply in self.replies if reply.ended]
        if ended:
            self.replies = [reply for reply in self.replies if not reply.ended]
            self._layers = None
        for reply in ended:
            self._on_end(reply)

    def layers(self) -> list[dict[str, Reply]]:
        """Replies by job id, in as many layers as there are replies to one job; at least one."""
        if self._layers is None:
            self._layers = [{}]
            for reply in self.replies:
                self._place(reply, self._layers)
        return self._layers

    @staticmethod
    def _place(reply: Reply, layers: list[dict[str, Reply]]) -> None:
        free = next((layer for layer in layers if reply.job_id not in layer), None)
        if free is None:
            layers.append(free := {})
        free[reply.job_id] = reply


def portions(envelopes: Iterable[EnvelopeParts]) -> Iterator[list[EnvelopeParts]]:
    """Envelopes in portions that are handed out in a few milliseconds; all of a job's in one, so
    that they become one write."""
    by_job: dict[str, list[EnvelopeParts]] = defaultdict(list)
    for envelope in envelopes:
        by_job[envelope[0]].append(envelope)
    some: list[EnvelopeParts] = []
    for of_job in by_job.values():
        some += of_job
        if len(some) >= ENVELOPES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
