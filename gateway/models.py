"""The models that clients can ask for: what the configuration says, and what their workers do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import JobQueue
from contract.config import Config, ConfigError, ModelConfig, load_config
from contract.messages import Heartbeat, State
from gateway.link import Link
from gateway.watched_file import WatchedFile

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_LOOK_TIMEOUT_S: Final = 1.0
_decode_beat = msgspec.msgpack.Decoder(Heartbeat).decode


class ModelStatus(NamedTuple):
    """A model's state is that of its most advanced worker."""

    state: State
    workers: tuple[Heartbeat, ...] = ()
    waiting: int = 0

    @property
    def max_model_len(self) -> int | None:
        """Prompt and answer together, in tokens, as far as known."""
        return max((worker.max_model_len for worker in self.workers), default=0) or None


_STOPPED: Final = ModelStatus(State.STOPPED)


class Models:
    """Follows the configuration file and the workers' heartbeats, about once a second."""

    def __init__(self, db: RedisClient, config: Config, config_path: Path, link: Link) -> None:
        self.configured: Mapping[str, ModelConfig] = config.models
        self._db = db
        self._file = WatchedFile(config_path)
        self._link = link
        self._statuses: dict[str, ModelStatus] = {}

    def status(self, model: str) -> ModelStatus:
        """As last seen."""
        return self._statuses.get(model, _STOPPED)

    def is_ready(self, model: str) -> bool:
        return self.status(model).state is State.READY

    def any_ready(self) -> bool:
        return any(self.is_ready(model) for model in self.configured)

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

    async def _look(self) -> None:
        async with asyncio.timeout(_LOOK_TIMEOUT_S):
            await self._db.ping()
        for model in self.configured:
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                beats = await Heartbeats(self._db, model).alive()
                waiting = await JobQueue(self._db, model).waiting()
            workers = tuple(_read(beats))
            self._statuses[model] = ModelStatus(_state_of(workers), workers, waiting)

    def _reload_config(self) -> None:
        """A file that cannot be used changes nothing."""
        if not self._file.has_changed():
            return
        try:
            models = load_config(self._file.path).models
        except ConfigError as error:
            log.error("the models stay as they were: %s", error)
            return
        if models != self.configured:
            log.info("models are now: %s", ", ".join(models) or "none")
            self.configured = models


def _read(beats: Iterable[bytes]) -> Iterator[Heartbeat]:
    for beat in beats:
        try:
            yield _decode_beat(beat)
        except msgspec.MsgspecError as error:
            log.warning("a heartbeat cannot be read (is its worker of another version?): %s", error)


def _state_of(workers: tuple[Heartbeat, ...]) -> State:
    states = {worker.state for worker in workers}
    for state in (State.READY, State.STARTING, State.STOPPING):
        if state in states:
            return state
    return State.STOPPED
