"""Sentinels and servers that speak TLS alone, and users of least privilege, as connections meet
them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ConnectionError as LostConnection

from contract.bus.client import connect
from orchestrator.system.valkey import check_external
from tests.failover_tls import PROGRAM, WITHOUT, TlsServers, tls_servers
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason=WITHOUT)]


@pytest.fixture
def servers() -> Iterator[TlsServers]:
    with tls_servers() as running:
        yield running


async def test_a_connection_follows_the_primary_over_tls(servers: TlsServers) -> None:
    assert await check_external(servers.url) == []
    db = connect(servers.url)
    try:
        await db.set("ew:test", "before")
        assert servers.first.client.get("ew:test") == b"before"
        servers.kill_primary()

        async def is_written() -> bool:
            try:
                return bool(await db.set("ew:test", "after"))
            except redis.RedisError:
                return False

        await until(is_written, 40)
        assert servers.second.client.get("ew:test") == b"after"
        with pytest.raises(redis.exceptions.NoPermissionError):
            await db.set("other", "1")
    finally:
        await db.aclose()


async def test_a_sentinel_of_an_unknown_authority_is_not_asked(servers: TlsServers) -> None:
    db = connect(re.sub(r"ssl_ca_certs=[^&]*&", "", servers.url))
    try:
        with pytest.raises(LostConnection, match=r"certificate that is refused \(self-signed"):
            await db.ping()
    finally:
        await db.aclose()


async def test_a_user_whom_the_sentinels_do_not_let_ask_is_told_so(servers: TlsServers) -> None:
    servers.sentinel.client.execute_command("ACL", "SETUSER", "ew", "-@all")
    db = connect(servers.url)
    try:
        with pytest.raises(LostConnection, match=r"do not let the user in .*sentinel\|masters"):
            await db.ping()
    finally:
        await db.aclose()
