"""Leases end unless they are renewed, and a process that comes back late is told so."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from contract.bus.heartbeats import GATEWAYS, HOSTS, LEASE_MS, Heartbeats
from contract.config import Config, ModelConfig
from contract.figures import Figures, ModelFigures, Requests
from contract.gateway_beat import GatewayBeat
from contract.messages import Heartbeat
from tests.contract.queue_workers import beat, end_lease


async def test_the_first_beat_and_one_after_a_lapse_say_so_and_others_do_not(
    db: Redis, unique_model: str
) -> None:
    assert await beat(db, unique_model, "w")
    assert not await beat(db, unique_model, "w")
    await end_lease(db, unique_model, "w")
    assert await beat(db, unique_model, "w")
    assert not await beat(db, unique_model, "w")


async def test_a_lease_ends_by_itself(db: Redis, unique_model: str) -> None:
    await beat(db, unique_model, "w")
    seconds, micros = await db.time()
    ends_ms = await db.zscore(f"ew:{{{unique_model}}}:leases", "w")
    assert 0 < ends_ms - (seconds * 1000 + micros / 1000) <= LEASE_MS


async def test_only_those_whose_lease_holds_are_alive(db: Redis, unique_model: str) -> None:
    heartbeats = Heartbeats(db, unique_model)
    assert await heartbeats.alive() == []
    assert await heartbeats.names() == set()
    for name in ("a", "b"):
        await beat(db, unique_model, name)
    await end_lease(db, unique_model, "b")
    (body,) = await heartbeats.alive()
    assert msgspec.msgpack.decode(body, type=Heartbeat).name == "a"
    assert await heartbeats.names() == {"a"}


async def test_the_latest_heartbeat_is_the_one_that_counts(db: Redis, unique_model: str) -> None:
    heartbeats = Heartbeats(db, unique_model)
    figures = Figures(1.5, {"m": ModelFigures()}, [Requests("/x", 200, "m", 3)])
    figures.models["m"].queue_s.observe(0.3)
    for open_streams in (1, 2):
        sent = GatewayBeat("g", "here", 1, open_streams=open_streams, figures=figures)
        await heartbeats.beat("g", sent, ready=True)
    (body,) = await heartbeats.alive()
    assert msgspec.msgpack.decode(body, type=GatewayBeat) == sent


async def test_those_long_gone_are_forgotten_altogether(db: Redis, unique_model: str) -> None:
    for name in ("here", "just gone", "long gone"):
        await beat(db, unique_model, name)
    leases, ready, beats = (
        f"ew:{{{unique_model}}}:{part}" for part in ("leases", "ready", "beats")
    )
    seconds, _ = await db.time()
    await db.zadd(leases, {"just gone": seconds * 1000 - 1000, "long gone": 1})
    assert len(await Heartbeats(db, unique_model).alive()) == 1
    assert set(await db.zrange(leases, 0, -1)) == {b"just gone", b"here"}
    assert set(await db.zrange(ready, 0, -1)) == {b"just gone", b"here"}
    assert set(await db.hkeys(beats)) == {b"just gone", b"here"}


async def test_who_leaves_is_gone_at_once(db: Redis, unique_model: str) -> None:
    heartbeats = Heartbeats(db, unique_model)
    await beat(db, unique_model, "w")
    await heartbeats.leave("w")
    await heartbeats.leave("w")
    assert await heartbeats.alive() == []
    assert await db.keys(f"ew:{{{unique_model}}}:*") == []


async def test_a_worker_that_is_not_ready_is_alive_but_does_not_serve(
    db: Redis, unique_model: str
) -> None:
    ready = f"ew:{{{unique_model}}}:ready"
    await beat(db, unique_model, "w", ready=True)
    assert await db.zcard(ready) == 1
    await beat(db, unique_model, "w", ready=False)
    assert await db.zcard(ready) == 0
    assert await Heartbeats(db, unique_model).names() == {"w"}


@pytest.mark.parametrize("tag", [GATEWAYS, HOSTS])
def test_no_model_can_have_the_leases_of_gateways_or_supervisors(tag: str) -> None:
    with pytest.raises(ValidationError):
        Config(models={tag: ModelConfig(engine="mock", model_path="none")})


async def test_of_a_model_that_nobody_serves_any_more_nothing_is_left(
    db: Redis, unique_model: str
) -> None:
    await beat(db, unique_model, "w")
    keys = await db.keys(f"ew:{{{unique_model}}}:*")
    assert len(keys) == 3
    for key in keys:
        assert await db.pttl(key) > 0
