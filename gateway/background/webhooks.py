"""Tells the end of background jobs by webhooks, which are tried again until they are taken.
Whichever gateway process looks first sends what is due."""

from __future__ import annotations

import asyncio
import logging
import random
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import BackgroundJob
from contract.process.tasks import cancel_and_wait
from gateway.background.receiver import Receiver
from gateway.http.outside_hosts import OutsideHosts

if TYPE_CHECKING:
    from gateway.background.webhook_sender import WebhookSender

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_AT_ONCE: Final = 256
_MOST_RECEIVERS: Final = 1_000
#: Longer than a try may take: if its process dies, another one tries.
_AGAIN_AFTER_MS: Final = 60_000
#: As the specification recommends: after 5 s, 5 and 30 min, 2, 5, 10, 14, 20 and 24 h.
_WAITS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: The receiver wants no more of it.
_GONE: Final = 410


class Webhooks:
    """Sends what is due, to hosts that are allowed."""

    def __init__(self, records: BackgroundJobs, hosts: OutsideHosts) -> None:
        self.hosts = hosts
        self._records = records
        self._sender: WebhookSender | None = None
        self._telling: set[asyncio.Task[None]] = set()
        #: By host, those that are just being told, or that did not answer in time.
        self._receivers: dict[str, Receiver] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                try:
                    await self._look()
                except (RedisError, OSError) as error:
                    log.debug("webhooks are not looked at: %s", error)
        finally:
            await cancel_and_wait(self._telling)
            if self._sender is not None:
                await self._sender.close()

    async def _look(self) -> None:
        room = _AT_ONCE - len(self._telling)
        if not room:
            return
        for job in await self._records.webhooks_due(room, _AGAIN_AFTER_MS):
            task = asyncio.create_task(self._tell(job))
            self._telling.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a webhook is tried again in a minute", exc_info=error)

    async def _tell(self, job: BackgroundJob) -> None:
        if (webhook := job.webhook) is None:
            return
        sender, host = await self._sending(), urlsplit(webhook.url).netloc
        receiver = self._receivers.setdefault(host, Receiver())
        try:
            told = await receiver.tell(lambda: sender.send(job, webhook.url, webhook.secret))
        finally:
            if receiver.is_idle or len(self._receivers) > _MOST_RECEIVERS:
                self._receivers.pop(host, None)
        if told is None:  # It is due again in a minute.
            return
        is_taken = 200 <= told.status < 300
        is_over = is_taken or told.status == _GONE or job.webhook_tries >= len(_WAITS_S)
        wait_s = None if is_over else _WAITS_S[job.webhook_tries] * random.uniform(1, 1.2)  # noqa: S311
        log.info("webhook of %s: %s", job.id, told.word)
        await self._records.webhook_tried(job, told.word, wait_s)

    async def _sending(self) -> WebhookSender:
        """The one that sends; the first takes a while to import, in which the loop turns on."""
        if self._sender is None:
            module = await asyncio.to_thread(import_module, "gateway.background.webhook_sender")
            self._sender = self._sender or module.WebhookSender(self.hosts)
        return self._sender
