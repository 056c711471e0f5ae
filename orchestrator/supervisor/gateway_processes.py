"""Gateway processes of this host: whether one answers, and the leases of those that are gone."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from typing import NamedTuple

from contract.bus.client import RedisClient
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.replies import ReplyStream
from contract.gateway_beat import GatewayBeat
from contract.process.process_table import read_entry
from orchestrator.protocol.specs import GatewaySpec


class _Running(NamedTuple):
    """The identity of a process: a pid alone may be given to another one."""

    pid: int
    start_ticks: int


class GatewayProcesses:
    """Those that were seen to run here, by the names in their heartbeats."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    async def end_dead(self, db: RedisClient, host: str, beats: list[GatewayBeat]) -> None:
        """End the leases of processes that ran here and are gone: jobs whose answer no client can
        ask for are cancelled then. Raises `RedisError`."""
        here = {beat.name: beat for beat in beats if beat.host == host}
        alive = {
            name: found for name, beat in here.items() if (found := self._identity(name, beat.pid))
        }
        for name in (self._running.keys() & here.keys()) - alive.keys():
            await Heartbeats(db, GATEWAYS).leave(name)
            await ReplyStream(db, name).leave()
        self._running = alive

    def _identity(self, name: str, pid: int) -> _Running | None:
        """Return the identity of a process; None if it is gone, though its pid may live on."""
        entry = read_entry(pid)
        if entry is None or entry.is_zombie:
            return None
        found = _Running(pid, entry.start_ticks)
        return found if self._running.get(name, found) == found else None


@cache
def _any_certificate() -> ssl.SSLContext:
    """Return the context of a client that only asks whether a process of this host answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def is_live(gateway: GatewaySpec) -> bool:
    """Return whether a gateway process answers there, with whatever certificate. Raises
    `OSError`."""
    host, port = gateway.host, gateway.port
    tls = _any_certificate() if gateway.certificate else None
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        request = f"GET /health/live HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
