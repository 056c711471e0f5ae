"""One gateway process: its parts, and their lives from start to stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import secrets
import signal
import time
from typing import Final

from redis.exceptions import RedisError
from starlette.requests import Request

from contract.bus.client import connect, connect_reader
from contract.bus.replies import ReplyStream
from contract.bus.views.request_board import RequestBoard
from contract.gateway_beat import GatewayBeat
from contract.messages import ErrorCode
from contract.process import collector
from contract.process.tasks import cancel_and_wait
from gateway.admin.request_journal import RequestJournal
from gateway.background.keeper import Keeper
from gateway.background.unattended import Unattended
from gateway.background.webhooks import Webhooks
from gateway.http.auth import Authenticator
from gateway.http.errors import ApiError
from gateway.http.outside_hosts import OutsideHosts
from gateway.http.turnstile import Turnstile
from gateway.jobs.admission import Admission
from gateway.jobs.checks import JobChecks
from gateway.jobs.media.intake import MediaIntake
from gateway.jobs.models import Models
from gateway.jobs.queue_memory import QueueMemory
from gateway.jobs.routing.moving import Moving
from gateway.jobs.routing.shadows import Shadows
from gateway.lifecycle.defects import leave_if_broken
from gateway.lifecycle.heartbeat import GatewayHeartbeat
from gateway.lifecycle.housekeeping import DeadlineMonitor, Housekeeping
from gateway.lifecycle.key_sharing import KeySharing
from gateway.lifecycle.settings import ProcessSettings
from gateway.streams.cancelling import Canceller
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.replays import Replays

log = logging.getLogger(__name__)
#: Ends what is open with an error, and the process; supervisors have no other way to say so.
HURRY: Final = signal.SIGQUIT
#: Others have this process' place, and it is about to be told to end; said again, so are they.
REPLACED: Final = signal.SIGUSR2
_LAST_WORDS_S: Final = 2.0
#: As long as a gateway may take to start on a busy machine.
_RELIEVED_WITHIN_S: Final = 60.0


class GatewayProcess:
    """Everything that lives as long as the process. Nothing talks to Redis before `start`."""

    def __init__(self, settings: ProcessSettings) -> None:
        self.config = settings.config
        self.instance = settings.instance
        self.started_unix_s = int(time.time())
        self.name = f"{settings.instance}-{secrets.token_hex(4)}"
        self.db = connect(settings.redis_url)
        self.link = Link()
        self.turnstile = Turnstile()
        self.metrics = Metrics()
        self.models = Models(
            self.db, self.config, settings.config_path, self.link, settings.config_problem
        )
        self.key_sharing = KeySharing(self.db, self.config.keys, settings.keys_path)
        self.keys = self.key_sharing.store
        self.authenticator = Authenticator(self.keys, self.config.gateway)
        self._stream = stream = ReplyStream(self.db, self.name)
        self._reader = connect_reader(settings.redis_url)
        self._canceller = Canceller(self.db, self.config.limits.total_timeout_s)
        self.dispatcher = Dispatcher(stream, self._reader, self.link, self._canceller, self.metrics)
        self.dispatcher.make_way = self.turnstile.rest
        self.replays = Replays(self.db, settings.redis_url, self.dispatcher)
        self._memory = QueueMemory(self.db)
        self._media = MediaIntake(self.config.gateway.media)
        self.checks = JobChecks(self.models, self._media, self.metrics)
        self._moving = Moving(self.db, self.models, self.checks, self.dispatcher, self.metrics)
        self.admission = Admission(
            self.db,
            self.link,
            self.models,
            self.dispatcher,
            self.replays,
            self._canceller,
            self.metrics,
            self._memory,
            self._media,
            self._moving,
        )
        self.shadows = Shadows(self.models, self.checks, self.admission)
        self.unattended = Unattended(self.admission, self.keys.by_id)
        jobs = self.config.jobs
        self.keeper = Keeper(
            self.db, self.name, jobs, self.unattended, lambda: self.dispatcher.draining
        )
        hosts = OutsideHosts("jobs.webhook_hosts", jobs.webhook_hosts, jobs.webhook_private_hosts)
        self.webhooks = Webhooks(self.keeper.records, hosts)
        self._deadline_monitor = DeadlineMonitor(self.dispatcher, self.models, self.link, self.keys)
        self._housekeeping = Housekeeping(self.db, stream, self.dispatcher, self.link, self.models)
        self.board = RequestBoard(self.db)
        self.journal = RequestJournal(self.board, self.name, self.dispatcher)
        self._settings = settings
        #: Whether the process that started this one has died.
        self.is_orphan = self._is_replaced = False
        self._loops: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None

    def owns(self, beat: GatewayBeat) -> bool:
        """Whether a heartbeat is of a process of this gateway."""
        return not beat.is_adopted and beat.name.startswith(f"{self.instance}-")

    async def start(self) -> None:
        """Begin to read and to look after things. Redis may be away."""
        self._reading = asyncio.create_task(self.dispatcher.run())
        self.heartbeat_sender = GatewayHeartbeat(
            self._settings.redis_url, self._beat, lambda: not self.dispatcher.draining
        )
        self.heartbeat_sender.start()
        self._loops = [
            asyncio.create_task(loop)
            for loop in (
                self.models.watch(),
                self._deadline_monitor.run(),
                self._housekeeping.run(),
                self._memory.watch(),
                self._moving.run(),
                self.keeper.run(),
                self.webhooks.run(),
                self.journal.run(),
                self.key_sharing.run(),
                self.heartbeat_sender.keep_turning(),
            )
        ]
        for task in (self._reading, *self._loops):
            task.add_done_callback(leave_if_broken)
        self._watch_parent()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(HURRY, self._hurry)
        loop.add_signal_handler(REPLACED, self._replaced)
        collector.settle()
        log.info("gateway process %s serves %s", self.name, ", ".join(self.models.configured))

    @property
    def is_leaving(self) -> bool:
        """Whether what has no end of its own is to end now: others serve, or nothing will."""
        return self.dispatcher.draining or self._is_replaced

    def drain(self) -> bool:
        """The server stops. Nothing new is taken, and open answers may go on for the configured
        time; but if others serve in the place of this process, then the clients that are connected
        are served to the end. Return whether that is so."""
        is_relieved = self.is_orphan or self._is_replaced
        if not is_relieved:
            self._drain()
        return is_relieved

    def _drain(self) -> None:
        if self.dispatcher.draining:
            return
        self.dispatcher.draining = True
        log.info("draining %d open answers", len(self.dispatcher.replies))
        timeout_s = self.config.gateway.drain_timeout_s
        asyncio.get_running_loop().call_later(timeout_s, self._end_draining)

    def _replaced(self) -> None:
        """Others serve now. Once more, or after the parent's death, and they are to end: this one
        has as long as they."""
        parent = multiprocessing.parent_process()
        if self._is_replaced or (parent is not None and not parent.is_alive()):
            self._drain()
        self._is_replaced = True

    async def stop(self) -> None:
        """End everything; what is still open fails as drained."""
        self._end_draining()
        await cancel_and_wait(self._loops)
        await self.replays.close()
        await self._media.close()
        await self._canceller.finish(_LAST_WORDS_S)
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.keeper.stop()
                await self.journal.leave()
                await self.heartbeat_sender.stop()
                await self._stream.leave()
        except (TimeoutError, RedisError, OSError):
            log.warning("the lease is left to end: Redis does not answer")
        self.dispatcher.stop()
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await self._reader.aclose()
        await self.db.aclose()

    def _watch_parent(self) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            # The rest of the parent's group is killed with it.
            os.setpgrp()
            loop = asyncio.get_running_loop()
            loop.add_reader(parent.sentinel, self._parent_died, loop, parent.sentinel)

    def _parent_died(self, loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
        """Serve until the supervisor says that others do (SIGTERM). Leave if that does not come in
        time: there may be no supervisor."""
        loop.remove_reader(sentinel)
        self.is_orphan = True
        log.error("the parent process is gone; serving until others do")
        loop.call_later(_RELIEVED_WITHIN_S, os.kill, os.getpid(), signal.SIGTERM)

    def _beat(self) -> GatewayBeat:
        return GatewayBeat(
            name=self.name,
            host="",
            pid=0,
            index=self._settings.process_index,
            open_streams=len(self.dispatcher),
            is_leaving=self.is_leaving,
            figures=self.metrics.figures(),
            config_problem=self.models.problem,
            keys_problem=self.key_sharing.problem,
        )

    def _hurry(self) -> None:
        self._drain()
        self._end_draining()
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_draining(self) -> None:
        self.dispatcher.fail_all(
            ApiError(ErrorCode.DRAINING.value, "this gateway is stopping; ask again")
        )


def process_of(request: Request) -> GatewayProcess:
    """The process that a request is handled by."""
    # By its attributes it takes five times as long, and this is done four times a request.
    process: GatewayProcess = request.scope["app"].state["process"]
    return process
