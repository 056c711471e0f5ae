"""Models that are loaded on demand: the word of each supervisor that jobs may wait for one, and the
grants by which several supervisors on one Redis do not all load it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from contract.bus.client import LuaScript, RedisClient
from contract.bus.heartbeats import LEASE_MS, Heartbeats
from contract.messages import UNREADABLE

log = logging.getLogger(__name__)


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that is loaded at a request for it. `stage` says what is done for requests that wait,
    `eta_s` how long that may take, `problem` why the model cannot be loaded. It `is_elsewhere` if
    another host loads it; `is_returning` if it is always there, but for a restart."""

    stage: str = ""
    eta_s: float | None = None
    problem: str = ""
    is_elsewhere: bool = False
    is_returning: bool = False


_decode = msgspec.msgpack.Decoder(Registration).decode
_grant: Final = LuaScript("grant_load")


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


def grants_key(model: str) -> str:
    """Return the key of the sorted set of hosts that may load a model, by the ends of their
    leases."""
    return f"ew:{{{model}}}:loads"


async def ask_for_grants(db: RedisClient, host: str, models: Mapping[str, bool]) -> frozenset[str]:
    """Return those of these models that this host may load, or go on to have loaded, for as long as
    a lease lasts. Of each, the first host that asks has the grant; a further one gets it if the
    mapping's value is True. One round trip. Raises `RedisError`."""
    calls = [([grants_key(model)], [host, LEASE_MS, int(joins)]) for model, joins in models.items()]
    answers = await _grant.map(db, calls) if calls else []
    return frozenset(model for model, is_granted in zip(models, answers, strict=True) if is_granted)


async def return_grants(db: RedisClient, host: str, models: Iterable[str]) -> None:
    """Let other hosts load these models. Raises `RedisError`."""
    for model in models:
        await db.zrem(grants_key(model), host)


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


def _how_late(registration: Registration) -> tuple[bool, bool, float]:
    eta_s = float("inf") if registration.eta_s is None else registration.eta_s
    return bool(registration.problem), registration.is_elsewhere, eta_s
