"""The models that clients can ask for: what the configuration says, and what their workers do."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.heartbeats import BEAT_EVERY_S, HOSTS, Heartbeats, read_beats
from contract.bus.registration import first_registration
from contract.bus.views.model_look import look_at_models
from contract.condition import Condition, best
from contract.config import (
    Config,
    ConfigError,
    ModelConfig,
    Named,
    load_and_keep,
    meanings,
    names_of,
)
from contract.host_beat import HostBeat
from contract.keys import KeyRecord
from contract.messages import Heartbeat, Job, State
from gateway.http.watched_file import WatchedFile
from gateway.jobs.availability import ModelAvailability
from gateway.streams.link import Link

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_LOOK_TIMEOUT_S: Final = 1.0
_ALL_BEAT_WITHIN_S: Final = 2 * BEAT_EVERY_S
_decode_beat = msgspec.msgpack.Decoder(Heartbeat).decode
_decode_host = msgspec.msgpack.Decoder(HostBeat).decode
_STOPPED: Final = ModelAvailability(State.STOPPED)


class Models:
    """Follows the configuration file and the workers' heartbeats, about once a second."""

    def __init__(
        self, db: RedisClient, config: Config, config_path: Path, link: Link, problem: str = ""
    ) -> None:
        #: Why the configuration file cannot be used at the moment; empty if it can.
        self.problem = problem
        if problem:
            log.error("with the last good configuration: %s", problem)
        self.configured: Mapping[str, ModelConfig] = config.models
        self.limits = config.limits
        self._media_bytes = config.gateway.media.max_bytes
        self._named = dict(meanings(config.models))
        self._db = db
        self._file = WatchedFile(config_path)
        self._link = link
        self._statuses: dict[str, ModelAvailability] = {}
        #: Those of them that may take media.
        self._with_media: list[str] = []
        #: When each was seen to be served last, by the clock of this host.
        self._served_at: dict[str, float] = {}
        #: The supervisors, with the accounts of their GPUs.
        self.hosts: tuple[HostBeat, ...] = ()

    def status(self, model: str) -> ModelAvailability:
        """As last seen."""
        return self._statuses.get(model, _STOPPED)

    def was_served(self, model: str) -> bool:
        """Return whether somebody was seen to do its jobs a moment ago: all that live have beaten
        since."""
        return time.monotonic() - self._served_at.get(model, -math.inf) < _ALL_BEAT_WITHIN_S

    def id_of(self, name: str) -> str | None:
        """Return the id of the model with a name; None if none has it."""
        named = self._named.get(name)
        return named.model if named else None

    def find(self, name: str, key: KeyRecord | None) -> Named | None:
        """Return the model, or the adapter of one, that a key asks for by name; None if there is
        none for this key. A key that opens one name of a model opens the model, but no adapter."""
        named = self._named.get(name)
        if named is None or key is None:
            return None
        is_open = key.may_use(name) if named.adapter else self._is_open(named.model, key)
        return named if is_open else None

    def adapters_open_to(self, key: KeyRecord | None) -> list[Named]:
        """Return the adapters that a key may use."""
        named = self._named.values()
        return [each for each in named if each.adapter and key and key.may_use(each.adapter)]

    def open_to(self, key: KeyRecord | None) -> dict[str, ModelConfig]:
        """Return the models that a key may use."""
        return {
            model: config for model, config in self.configured.items() if self._is_open(model, key)
        }

    def served_name(self, job: Job) -> str:
        """Return the name that the answer to a job carries: of the model that does it, unless that
        has a share of the requests for another."""
        model, asked = job.model, self.configured.get(job.moved_from)
        if asked is not None and asked.split is not None and model in asked.split.to:
            model = job.moved_from
        config = self.configured.get(model)
        return job.adapter or (config.served_model_name if config else None) or model

    def may_move(self, job: Job) -> bool:
        """Return whether another model may do what the one asked for was to do."""
        asked = self.configured.get(job.moved_from or job.model)
        return asked is not None and asked.is_routed and job.adapter is None

    def _is_open(self, model: str, key: KeyRecord | None) -> bool:
        names = names_of(model, self.configured[model])
        return key is not None and any(map(key.may_use, names))

    @property
    def ready(self) -> frozenset[str]:
        """Return those that a worker serves now, as last seen."""
        return frozenset(filter(self.is_ready, self._statuses))

    def is_ready(self, model: str) -> bool:
        return self.status(model).state is State.READY

    def ended(self, model: str) -> str:
        """Return why a model has no worker and will get none by itself, if a supervisor says so
        and none says otherwise; empty while there is hope."""
        if self.status(model).workers or any(model in host.coming for host in self.hosts):
            return ""
        return next((host.ended[model] for host in self.hosts if model in host.ended), "")

    def condition(self, model: str) -> Condition:
        """Return how it is, in the supervisors' words; in its workers', where none speaks of it."""
        told = [host.models[model] for host in self.hosts if model in host.models]
        beats = [Condition(each.state, each.stage) for each in self.status(model).workers]
        return best([*told, *beats])

    def most_body_bytes(self, key: KeyRecord | None) -> int:
        """Return how large a request body of a key may be: larger if it may bring media along,
        which take four bytes for three in base64."""
        most = self.limits.max_body_bytes
        for model in self._with_media:
            if model in self.configured and self._is_open(model, key):
                return most + 4 * (self._media_bytes // 3 + 1)
        return most

    def any_served(self) -> bool:
        return any(self.status(model).is_served for model in self.configured)

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self._reload_config()
            try:
                await self._look()
            except (RedisError, OSError) as error:
                self._link.failed(error)
            else:
                self._link.worked()
            await asyncio.sleep(_LOOK_EVERY_S)

    def _followed(self) -> set[str]:
        """Return the models to look at: also one that the file has no more, until its workers have
        gone, as requests for it may wait."""
        left = {model for model, status in self._statuses.items() if status.workers}
        return left.union(self.configured)

    async def _look(self) -> None:
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            hosts = await Heartbeats(self._db, HOSTS).alive()
            looks = await look_at_models(self._db, self._followed())
        self.hosts = tuple(read_beats(hosts, _decode_host))
        for model, look in looks.items():
            workers = tuple(read_beats(look.beats, _decode_beat))
            state = best(Condition(worker.state) for worker in workers).state
            registration = first_registration(look.registrations)
            status = ModelAvailability(state, workers, look.waiting, registration)
            self._statuses[model] = status
            if status.is_served:
                self._served_at[model] = time.monotonic()
        self._with_media = [model for model in looks if self.status(model).may_take_media]

    def _reload_config(self) -> None:
        """Models and limits are at once as the file has them. A file that cannot be used changes
        nothing; what else it says waits for another process."""
        if not self._file.has_changed():
            return
        try:
            config = load_and_keep(self._file.path)
        except ConfigError as error:
            self.problem = str(error)
            log.error("models and limits stay as they were: %s", error)
            return
        self.problem = ""
        if config.limits != self.limits:
            log.info("limits are now: %s", config.limits)
            self.limits = config.limits
        models = config.models
        if models != self.configured:
            log.info("models are now: %s", ", ".join(models) or "none")
            self.configured = models
            self._named = dict(meanings(models))
