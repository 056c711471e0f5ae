from __future__ import annotations

import os

from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.gateway_beat import ADOPTED, GatewayBeat
from contract.host_beat import HostBeat
from orchestrator.supervisor.observation import Subject
from orchestrator.supervisor.observer import Observer


async def test_a_dead_gateway_process_is_none_though_another_reads_its_stream(
    redis_url: str,
) -> None:
    living = GatewayBeat("gateway-that-lives", "elsewhere", os.getpid())
    dead = GatewayBeat("gateway-that-died", "elsewhere", os.getpid(), index=ADOPTED)
    db = connect(redis_url)
    gateways = Heartbeats(db, GATEWAYS)
    for beat in (living, dead):
        await gateways.beat(beat.name, beat, ready=False)
    subject = Subject(redis_url, frozenset(), None, {}, HostBeat("here"))
    observer = Observer(lambda: subject, lambda _: None)
    try:
        seen = await observer._observe(subject)
        assert {living.name, dead.name} <= set(await gateways.names())
        assert [each for each in seen.gateway_beats if each.host == "elsewhere"] == [living]
    finally:
        for beat in (living, dead):
            await gateways.leave(beat.name)
        await observer._disconnect()
        await db.aclose()
