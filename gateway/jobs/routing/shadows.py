"""Copies of requests for other models, to see how those do: nothing of them comes back."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from contract.asked import Turn
from contract.config import ShadowConfig
from contract.messages import Delta, Done, Job, Status
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, send_nowhere
from gateway.jobs.admission import Admission
from gateway.jobs.checks import JobChecks
from gateway.jobs.models import Models
from gateway.jobs.routing.routing import point_of
from gateway.streams.dialects import Timings
from gateway.streams.reply import Reply
from gateway.streams.writer import Writer

log = logging.getLogger(__name__)
#: The usage of copies is told under this name, which no key has as its id.
SHADOW_KEY: Final = "shadow"


class Shadows:
    """Sends copies, and forgets their answers. A copy waits for nobody, and nobody for it."""

    def __init__(self, models: Models, checks: JobChecks, admission: Admission) -> None:
        self._models = models
        self._checks = checks
        self._admission = admission
        #: By model that is copied; each has its reply once it is queued, None if it was left out.
        self._copies: dict[str, list[asyncio.Task[Reply | None]]] = {}

    def copy(self, jobs: Sequence[Job], names: Mapping[str, str]) -> None:
        """Send copies of a request's jobs, if the model that it names has a shadow, which can
        take them and has room for them."""
        asked = jobs[0].moved_from or jobs[0].model
        config = self._models.configured.get(asked)
        if config is None or config.shadow is None:
            return
        shadow = config.shadow
        is_meant = point_of(jobs[0].id) * 100 < shadow.percent and jobs[0].adapter is None
        if not is_meant or not self._models.status(shadow.to).is_served:
            return
        for job in jobs:
            try:
                fitted = self._checks.fitted(job, shadow.to, names)
            except ApiError:
                return
            if self._has_room(asked, shadow):
                self._send(asked, _copied(fitted, asked))

    def _has_room(self, asked: str, shadow: ShadowConfig) -> bool:
        copies = self._copies[asked] = list(filter(_is_open, self._copies.get(asked, ())))
        return len(copies) < shadow.max_open

    def _send(self, asked: str, job: Job) -> None:
        self._copies[asked].append(asyncio.create_task(self._put(asked, job)))

    async def _put(self, asked: str, job: Job) -> Reply | None:
        context = RequestContext(send_nowhere, job.id.encode())
        context.model = job.model
        try:
            return await self._admission.admit(job, _Dropped(), context, None)
        except ApiError as error:
            log.debug("a copy of a request for %s is left out: %s", asked, error.code)
            return None


def _is_open(copy: asyncio.Task[Reply | None]) -> bool:
    if not copy.done():
        return True
    reply = None if copy.cancelled() or copy.exception() else copy.result()
    return reply is not None and not reply.ended


def _copied(job: Job, asked: str) -> Job:
    """Return the copy of a job. The prompts of each key stay apart in the engine's cache."""
    salt = f"{job.key_id} {job.cache_salt}"
    own = {"id": uuid.uuid4().hex, "key_id": SHADOW_KEY, "cache_salt": salt}
    return replace(job, moved_from=asked, turn=Turn("batch"), **own)


class _Dropped:
    """An answer that is not kept."""

    def __init__(self) -> None:
        self.writer = Writer()

    def begin(self, attempt: int) -> None: ...

    def rename(self, name: str) -> None: ...

    def delta(self, seq: int, delta: Delta) -> None: ...

    def status(self, status: Status) -> None: ...

    def done(self, seq: int, done: Done, timings: Timings) -> None: ...

    def fail(self, error: ApiError) -> None: ...

    def cut(self, error: ApiError) -> None: ...

    def heartbeat(self) -> None: ...
