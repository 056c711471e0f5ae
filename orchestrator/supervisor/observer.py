"""The observations of the supervisor: heartbeats, queues, Redis, the gateway, the GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
from redis.exceptions import RedisError, ResponseError

from contract.bus.client import RedisClient, connect
from contract.bus.heartbeats import GATEWAYS, HOSTS, Heartbeats, read_beats
from contract.bus.queue import JobQueue
from contract.bus.registration import (
    ask_for_grants,
    end_registration,
    renew_registrations,
    return_grants,
)
from contract.bus.views.model_look import look_at_models
from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat, has_namesake
from contract.messages import Heartbeat
from contract.process.process_table import read_table
from orchestrator.gpu.nvml.client import Nvml
from orchestrator.protocol.specs import GatewaySpec
from orchestrator.supervisor.gateway_processes import GatewayProcesses, is_live
from orchestrator.supervisor.lost_workers import LostWorkers
from orchestrator.supervisor.observation import Observation, Subject, Survey
from orchestrator.system.redis_trouble import in_words

log = logging.getLogger(__name__)
_ANSWER_WITHIN_S: Final = 2.0
_decode_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode
_decode_host = msgspec.msgpack.Decoder(HostBeat).decode
_decode_gateway_beat = msgspec.msgpack.Decoder(GatewayBeat).decode


class Observer:
    """Looks again and again, and tells; decides nothing."""

    def __init__(
        self, subject: Callable[[], Subject | None], tell: Callable[[Observation | Survey], None]
    ) -> None:
        self._subject = subject
        self._tell = tell
        self._wake = asyncio.Event()
        self._db: RedisClient | None = None
        self._url = ""
        self.lost_workers = LostWorkers()
        self._gateways = GatewayProcesses()
        #: By model, the last dead letter that was counted.
        self._dead_letters: dict[str, str] = {}
        #: The models on registration, as Redis knows them.
        self._announced: set[str] = set()
        self._asked_for: set[str] = set()
        #: Whether Redis has, in the look that is under way.
        self._has_answered = False
        self._survey_now = threading.Event()
        self.pace_s = 1.0
        self.survey_pace_s = 2.0

    def look_now(self) -> None:
        self._wake.set()

    def survey_now(self) -> None:
        self._survey_now.set()

    async def run(self) -> None:
        """Observe until cancelled."""
        loop = asyncio.get_running_loop()
        ended = threading.Event()
        # A thread that is not joined: a card in trouble may hang the driver for good.
        threading.Thread(target=self._survey, args=(loop, ended), daemon=True).start()
        try:
            while True:
                try:
                    await self._look()
                except Exception:
                    log.exception("what runs here could not be looked at")
                await self._pause()
        finally:
            ended.set()
            self._survey_now.set()
            await self._disconnect()

    async def _look(self) -> None:
        subject = self._subject()
        if subject is not None:
            self._tell(await self._observe(subject))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pace_s):
                await self._wake.wait()
        self._wake.clear()

    def _survey(self, loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
        nvml = Nvml()
        while not ended.is_set():
            self._survey_now.clear()
            taken_at = time.monotonic()
            try:
                survey = Survey(taken_at, read_table(), nvml.snapshot())
            except Exception:
                log.exception("the processes and GPUs of this host could not be looked at")
            else:
                with contextlib.suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(self._tell, survey)
            self._survey_now.wait(self.survey_pace_s)

    async def _observe(self, subject: Subject) -> Observation:
        taken_at = time.monotonic()
        answers = await self._gateway_answers(subject.gateway)
        seen = Observation(taken_at, None, "", {}, {}, {}, [], answers)
        self._has_answered = False
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await self._ask_redis(
                    await self._connected(subject.redis_url), subject, seen
                )
        except (RedisError, OSError, TimeoutError) as error:
            await self._disconnect()
            answers = self._has_answered or _is_an_answer(error)
            return seen._replace(
                redis_error=in_words(str(error)) or "no answer", redis_answers=answers
            )

    async def _ask_redis(self, db: RedisClient, subject: Subject, seen: Observation) -> Observation:
        info = await db.info()
        self._has_answered = True
        if info.get("loading"):
            return seen._replace(redis=info)
        await self.lost_workers.tell(db)
        if subject.is_shared:
            seen = await self._ask_the_others(db, subject, seen)
        await self._announce(db, subject)
        beats: dict[str, Heartbeat] = {}
        waiting: dict[str, int] = {}
        unfinished: dict[str, int] = {}
        broken: dict[str, frozenset[str]] = {}
        for model, look in (await look_at_models(db, subject.models)).items():
            for beat in read_beats(look.beats, _decode_heartbeat):
                beats[beat.name] = beat
            waiting[model] = look.waiting
            unfinished[model] = look.unfinished
            broken[model] = await self._broken_by_jobs(JobQueue(db, model), look.dead_letter)
        gateways = read_beats(await Heartbeats(db, GATEWAYS).alive(), _decode_gateway_beat)
        own = subject.host
        if not has_namesake(seen.hosts, own.host, own.installation):
            await self._gateways.end_dead(db, subject.host.host, gateways)
        return seen._replace(
            redis=info,
            beats=beats,
            waiting=waiting,
            unfinished=unfinished,
            gateway_beats=[beat for beat in gateways if not beat.is_adopted],
            broken=broken,
        )

    async def _ask_the_others(
        self, db: RedisClient, subject: Subject, seen: Observation
    ) -> Observation:
        """Look which hosts there are, and ask for the loads that this one would have."""
        bodies = await Heartbeats(db, HOSTS).alive()
        granted = await ask_for_grants(db, subject.host.host, subject.loads)
        await return_grants(db, subject.host.host, self._asked_for - subject.loads.keys())
        self._asked_for = set(subject.loads)
        return seen._replace(hosts=tuple(read_beats(bodies, _decode_host)), granted=granted)

    async def _announce(self, db: RedisClient, subject: Subject) -> None:
        """Tell gateways which models may be waited for, and how the GPUs are."""
        for model in self._announced - subject.registrations.keys():
            await end_registration(db, model, subject.host.host)
        await renew_registrations(db, subject.host.host, subject.registrations)
        self._announced = set(subject.registrations)
        await Heartbeats(db, HOSTS).beat(subject.host.host, subject.host, ready=True)

    async def _broken_by_jobs(self, queue: JobQueue, dead_letter: str) -> frozenset[str]:
        """Return the workers of the jobs that have ended as poison since this was last asked; none
        at first. `dead_letter` is the id of the last such job's record."""
        if self._dead_letters.setdefault(queue.model, dead_letter) == dead_letter:
            return frozenset()
        workers, last = await queue.dead_letters.broken_since(self._dead_letters[queue.model])
        self._dead_letters[queue.model] = last
        return workers

    async def _connected(self, url: str) -> RedisClient:
        if self._db is not None and self._url != url:
            await self._disconnect()
        if self._db is None:
            self._db, self._url = connect(url, connections=2), url
        return self._db

    async def _disconnect(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            await db.aclose()

    async def _gateway_answers(self, gateway: GatewaySpec | None) -> bool:
        if gateway is None:
            return False
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await is_live(gateway)
        except (OSError, TimeoutError):
            return False


def _is_an_answer(error: Exception) -> bool:
    """Whether Redis itself refused, as on a full disk or with too many clients."""
    return isinstance(error, ResponseError) or "max number of clients" in str(error)
