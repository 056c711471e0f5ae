"""Sentinels and servers that speak TLS alone, to users who may do no more than they need: those of
docs/hosts.md, word by word."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from redis.exceptions import ConnectionError as LostConnection

from contract.bus.client import connect
from contract.paths import ROOT
from contract.process.ports import free_port
from orchestrator.system.valkey import check_external
from tests.certificates import Authority
from tests.waiting import eventually, until

_PROGRAM = shutil.which("redis-server")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_PROGRAM is None, reason="no redis-server with TLS (Debian: redis-server)"),
]
_TLS = """port 0
bind 127.0.0.1
dir {directory}
tls-port {port}
tls-cert-file {certificate}
tls-key-file {key}
tls-ca-cert-file {authority}
tls-auth-clients no
tls-replication yes
"""
_SERVER = """appendonly yes
save ""
repl-diskless-sync-delay 0
masteruser replica
masterauth SECRET
"""
_SENTINEL = """sentinel monitor prod 127.0.0.1 {first} 2
sentinel auth-user prod sentinel
sentinel auth-pass prod SECRET
sentinel sentinel-user sentinel
sentinel sentinel-pass SECRET
sentinel down-after-milliseconds prod 500
sentinel failover-timeout prod 5000
"""


def _users(title: str) -> str:
    """Return the users that docs/hosts.md gives under a title, as lines of a configuration."""
    page = (ROOT / "docs" / "hosts.md").read_text()
    block = re.search(rf"# {title}\n(.*?)\n(?:\n|```)", page, re.DOTALL)
    assert block is not None, title
    lines = block[1].replace("ACL SETUSER", "user").splitlines()
    return "\n".join(["user default off", *lines, "user test on >test ~* &* +@all", ""])


class _Server(NamedTuple):
    """A server or a Sentinel. `client` may do everything."""

    port: int
    process: subprocess.Popen[bytes]
    authority: str

    @property
    def client(self) -> redis.Redis:
        login: dict[str, Any] = {"username": "test", "password": "test", "socket_timeout": 5}
        return redis.Redis(port=self.port, ssl=True, ssl_ca_certs=self.authority, **login)

    def says(self, field: str, value: str) -> bool:
        try:
            return str(self.client.info().get(field)) == value
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class _Servers(NamedTuple):
    url: str
    first: _Server
    second: _Server
    sentinel: _Server
    log: Path


@pytest.fixture
def servers() -> Iterator[_Servers]:
    with tempfile.TemporaryDirectory(prefix="ew-") as made:
        directory = Path(made)
        authority = Authority(directory)
        files, running = authority.issue("server"), []
        log = directory / "log"

        def start(name: str, more: str, *options: str) -> _Server:
            (directory / name).mkdir()
            port, config = free_port(), directory / name / "it.conf"
            places = {"certificate": files.certificate, "key": files.key}
            common = _TLS.format(
                directory=config.parent, port=port, authority=authority.file, **places
            )
            config.write_text(common + more)
            with log.open("ab") as out:
                command = [str(_PROGRAM), str(config), *options]
                process = subprocess.Popen(command, stdout=out, stderr=out)
            running.append(_Server(port, process, str(authority.file)))
            return running[-1]

        try:
            users = _users("on the servers")
            first = start("first", _SERVER + users)
            eventually(lambda: first.says("loading", "0"), 20)
            second = start("second", f"{_SERVER}{users}replicaof 127.0.0.1 {first.port}\n")
            eventually(lambda: second.says("master_link_status", "up"), 20)
            about = _SENTINEL.format(first=first.port) + _users("on the Sentinels")
            # Neither promotes a server without the other's word.
            sentinel = start("sentinel", about, "--sentinel")
            start("other", about, "--sentinel")
            eventually(lambda: _knows_all(sentinel), 30)
            login = "sentinel_username=ew&sentinel_password=SECRET"
            where = f"ew:SECRET@localhost:{sentinel.port}/prod/0"
            url = f"rediss+sentinel://{where}?ssl_ca_certs={authority.file}&{login}"
            yield _Servers(url, first, second, sentinel, log)
        finally:
            for each in reversed(running):
                each.kill()


def _knows_all(sentinel: _Server) -> bool:
    """Whether it knows the replica and the other Sentinel."""
    try:
        state = sentinel.client.sentinel_master("prod")
        return int(state["num-slaves"]) == int(state["num-other-sentinels"]) == 1
    except redis.RedisError:
        return False


async def test_a_connection_follows_the_primary_over_tls(servers: _Servers) -> None:
    assert await check_external(servers.url) == []
    db = connect(servers.url)
    try:
        await db.set("ew:test", "before")
        assert servers.first.client.get("ew:test") == b"before"
        assert servers.first.client.wait(1, 5000) == 1
        servers.first.kill()

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


async def test_a_sentinel_of_an_unknown_authority_is_not_asked(servers: _Servers) -> None:
    db = connect(re.sub(r"ssl_ca_certs=[^&]*&", "", servers.url))
    try:
        with pytest.raises(LostConnection, match=r"certificate that is refused \(self-signed"):
            await db.ping()
    finally:
        await db.aclose()


async def test_a_user_whom_the_sentinels_do_not_let_ask_is_told_so(servers: _Servers) -> None:
    servers.sentinel.client.execute_command("ACL", "SETUSER", "ew", "-@all")
    db = connect(servers.url)
    try:
        with pytest.raises(LostConnection, match=r"do not let the user in .*sentinel\|masters"):
            await db.ping()
    finally:
        await db.aclose()
