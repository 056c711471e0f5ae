"""Two servers and two Sentinels that speak TLS alone, to users who may do no more than they need:
those of docs/hosts.md, word by word."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis

from contract.paths import ROOT
from contract.process.ports import free_port
from tests.certificates import Authority
from tests.waiting import eventually

PROGRAM: Final = shutil.which("redis-server")
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


class TlsServers(NamedTuple):
    """`url` is for ew: two Sentinels say which of `first` and `second` is the primary."""

    url: str
    first: _Server
    second: _Server
    sentinel: _Server
    log: Path

    def kill_primary(self) -> None:
        """SIGKILL, once the replica has all."""
        assert self.first.client.wait(1, 5000) == 1
        self.first.kill()


@contextmanager
def tls_servers() -> Iterator[TlsServers]:
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
                command = [str(PROGRAM), str(config), *options]
                process = subprocess.Popen(command, stdout=out, stderr=out)
            running.append(_Server(port, process, str(authority.file)))
            return running[-1]

        try:
            users = _users("on the servers")
            first = start("first", _SERVER + users)
            eventually(lambda: first.says("loading", "0"))
            second = start("second", f"{_SERVER}{users}replicaof 127.0.0.1 {first.port}\n")
            eventually(lambda: second.says("master_link_status", "up"))
            about = _SENTINEL.format(first=first.port) + _users("on the Sentinels")
            # Neither promotes a server without the other's word.
            sentinel = start("sentinel", about, "--sentinel")
            start("other", about, "--sentinel")
            eventually(lambda: _knows_all(sentinel), 30)
            login = "sentinel_username=ew&sentinel_password=SECRET"
            where = f"ew:SECRET@localhost:{sentinel.port}/prod/0"
            url = f"rediss+sentinel://{where}?ssl_ca_certs={authority.file}&{login}"
            yield TlsServers(url, first, second, sentinel, log)
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


WITHOUT: Final = "no redis-server with TLS (Debian: redis-server)"
