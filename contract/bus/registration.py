"""Models that are loaded on demand: the word of each supervisor that jobs may wait for one."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from contract.bus.client import RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.messages import UNREADABLE

log = logging.getLogger(__name__)


class Standby(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that is loaded when somebody asks for it. `stage` says what is being done for
    those who wait, and `eta_s` how long that may take; `problem`, why it cannot be loaded."""

    stage: str = ""
    eta_s: float | None = None
    problem: str = ""


_decode = msgspec.msgpack.Decoder(Standby).decode


def standbys(db: RedisClient, model: str) -> Heartbeats:
    """The hosts on which a model is on standby, each for as long as its lease lasts."""
    return Heartbeats(db, model, role="standby")


async def renew_standby(db: RedisClient, model: str, host: str, standby: Standby) -> None:
    """Jobs are welcome for as long as a lease lasts, though no worker may be ready."""
    await standbys(db, model).beat(host, standby, ready=True)


async def end_standby(db: RedisClient, model: str, host: str) -> None:
    await standbys(db, model).leave(host)


async def read_standby(db: RedisClient, model: str) -> Standby | None:
    """The word of the host that will be first to have the model; None if nobody would load it.
    There is a problem only if all hosts have one."""
    words = list(_read(await standbys(db, model).alive()))
    return min(words, key=_how_late, default=None)


def _read(bodies: Iterable[bytes]) -> Iterable[Standby]:
    for body in bodies:
        try:
            yield _decode(body)
        except UNREADABLE as error:
            log.warning("a standby cannot be read (is its host of another version?): %s", error)


def _how_late(standby: Standby) -> tuple[bool, float]:
    return bool(standby.problem), float("inf") if standby.eta_s is None else standby.eta_s
