"""Models that are loaded on demand: the supervisor's word that jobs may wait for one."""

from __future__ import annotations

import msgspec

from contract.bus.client import RedisClient
from contract.bus.heartbeats import LEASE_MS


class Standby(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model that is loaded when somebody asks for it. `stage` says what is being done for
    those who wait, and `eta_s` how long that may take; `problem`, why it cannot be loaded."""

    stage: str = ""
    eta_s: float | None = None
    problem: str = ""


def standby_key(model: str) -> str:
    return f"ew:{{{model}}}:standby"


async def renew_standby(db: RedisClient, model: str, standby: Standby) -> None:
    """Jobs are welcome for as long as a lease lasts, though no worker may be ready."""
    await db.set(standby_key(model), msgspec.msgpack.encode(standby), px=LEASE_MS)


async def end_standby(db: RedisClient, model: str) -> None:
    await db.delete(standby_key(model))


async def read_standby(db: RedisClient, model: str) -> Standby | None:
    """None if nobody would load the model. Raises `msgspec.MsgspecError`."""
    body = await db.get(standby_key(model))
    return None if body is None else msgspec.msgpack.decode(body, type=Standby)
