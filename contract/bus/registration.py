"""Models that are loaded on demand: the word of each supervisor that jobs may wait for one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import msgspec

from contract.bus.client import RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.messages import UNREADABLE

log = logging.getLogger(__name__)


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that is loaded at a request for it. `stage` says what is being done for requests
    that wait, `eta_s` how long that may take, `problem` why the model cannot be loaded."""

    stage: str = ""
    eta_s: float | None = None
    problem: str = ""


_decode = msgspec.msgpack.Decoder(Registration).decode


def registrations(db: RedisClient, model: str) -> Heartbeats:
    """Return the hosts that have registered a model, each for as long as its lease lasts."""
    return Heartbeats(db, model, role="registration")


async def renew_registrations(
    db: RedisClient, host: str, words: Mapping[str, Registration]
) -> None:
    """Let jobs of these models wait for as long as a lease lasts, though no worker is ready. One
    round trip."""
    beats = [(registrations(db, model), registration) for model, registration in words.items()]
    await Heartbeats.beat_all(db, host, beats)


async def end_registration(db: RedisClient, model: str, host: str) -> None:
    await registrations(db, model).leave(host)


def first_registration(bodies: Iterable[bytes]) -> Registration | None:
    """Return the registration of the host that will have a model first, of all that there are of
    it; None if no host would load it. It has a problem only if all hosts have one."""
    return min(_read(bodies), key=_how_late, default=None)


def _read(bodies: Iterable[bytes]) -> Iterable[Registration]:
    for body in bodies:
        try:
            yield _decode(body)
        except UNREADABLE as error:
            log.warning(
                "a registration cannot be read (is its host of another version?): %s", error
            )


def _how_late(registration: Registration) -> tuple[bool, float]:
    return bool(registration.problem), float(
        "inf"
    ) if registration.eta_s is None else registration.eta_s
