"""Whether a client waits for a job, as its gateway process is seen from a worker."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from contract.bus.claims import Attempt
from contract.bus.heartbeats import BEAT_EVERY_S, GATEWAYS, Heartbeats
from contract.bus.replies import entry_order, reply_key
from contract.gateway_beat import GatewayBeat
from contract.messages import Job, Sampling
from workers.claims import audience
from workers.claims.audience import Audience


class Gateway:
    """A gateway process that puts jobs at times of Redis' clock."""

    def __init__(self, db: Redis, name: str) -> None:
        self.db = db
        self.name = name
        self.reply = reply_key(name)

    async def beat(self) -> None:
        await Heartbeats(self.db, GATEWAYS).beat(
            self.name, GatewayBeat(self.name, "here", 1), ready=True
        )

    async def put(self) -> Attempt:
        """Put a job. Returns in a later millisecond, which is what departures are told by."""
        entry = await self.db.xadd(f"{self.reply}:queue", {"job": ""})
        put_ms, _ = entry_order(entry.decode())
        while (await Heartbeats(self.db, GATEWAYS).look()).now_ms <= put_ms:
            pass
        job = Job(id="j", model="m", sampling=Sampling(max_tokens=1), prompt="x")
        return Attempt(job, entry.decode(), 1, self.reply, "0")

    async def lose_lease(self) -> None:
        """As when it is known to be dead, and as when Redis has lost all data."""
        await Heartbeats(self.db, GATEWAYS).leave(self.name)


@pytest.fixture
async def gateway(db: Redis, unique_model: str) -> Gateway:
    return Gateway(db, f"g-{unique_model}")


async def test_of_a_process_that_departed_only_the_jobs_put_before_are_dropped(
    db: Redis, gateway: Gateway
) -> None:
    seen = Audience(db, grace_s=3600)
    await gateway.beat()
    before = await gateway.put()
    await seen.look([gateway.reply])
    assert not seen.is_gone(before)
    await gateway.lose_lease()
    await seen.look([gateway.reply])
    # All of Redis' data may be lost, and its next heartbeat some time away.
    after = await gateway.put()
    assert (seen.is_gone(before), seen.is_gone(after)) == (True, False)
    await gateway.beat()
    await seen.look([gateway.reply])
    assert not seen.is_gone(before)


async def test_a_process_without_a_lease_has_the_time_of_a_heartbeat_to_say_that_it_lives(
    db: Redis, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audience._SURELY_GONE_S > BEAT_EVERY_S
    seen = Audience(db, grace_s=3600)
    job = await gateway.put()
    await seen.look([gateway.reply])
    await seen.look([gateway.reply])
    assert not seen.is_gone(job)
    monkeypatch.setattr(audience, "_SURELY_GONE_S", 0.0)
    await seen.look([gateway.reply])
    assert seen.is_gone(job)


async def test_who_put_a_job_after_a_flush_and_never_beats_again_is_gone_after_all(
    db: Redis, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Audience(db, grace_s=3600)
    await gateway.beat()
    await seen.look([])
    await gateway.lose_lease()
    await seen.look([])
    job = await gateway.put()
    await seen.look([gateway.reply])
    assert not seen.is_gone(job)
    monkeypatch.setattr(audience, "_SURELY_GONE_S", 0.0)
    await seen.look([gateway.reply])
    assert seen.is_gone(job)
