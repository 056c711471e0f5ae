"""A primary, its replica, and a Sentinel that promotes the replica when the primary is gone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis
from redis.exceptions import ConnectionError as LostConnection

from contract.process.ports import free_port
from tests.waiting import eventually

NAME = "prod"
PASSWORD = "of-the-servers"
_SENTINEL = """port {port}
dir {directory}
sentinel monitor {name} 127.0.0.1 {first} 1
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 300
sentinel failover-timeout {name} 3000
"""


class Server:
    """A server on a port, which a replica and a Sentinel can reach."""

    def __init__(self, binary: str, arguments: list[str], port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def client(self, password: str | None = PASSWORD) -> redis.Redis:
        return redis.Redis(port=self.port, password=password, socket_timeout=5)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Failover:
    """`url` is for ew. One Sentinel of the two that it names is not there."""

    Lost = LostConnection

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self.first = self._server(directory / "first")
        self.second = self._server(directory / "second", of=self.first)
        eventually(lambda: self._says(self.second, "master_link_status", "up"))
        port = free_port()
        file = directory / "sentinel.conf"
        file.write_text(
            _SENTINEL.format(
                port=port,
                directory=directory,
                name=NAME,
                first=self.first.port,
                password=PASSWORD,
            )
        )
        self.sentinel = Server(binary, [str(file), "--sentinel"], port)
        eventually(lambda: self._knows_replica())
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{port}"
        self.url = f"redis+sentinel://:{PASSWORD}@{hosts}/{NAME}/0"

    def kill_primary(self) -> None:
        """SIGKILL, once the replica has all; return when the Sentinel calls it the primary."""
        assert self.first.client().wait(1, 5000) == 1
        self.first.kill()
        eventually(lambda: self._primary() == self.second.port, 30)

    def swap(self) -> None:
        """Exchange the two, by hand: unlike a Sentinel this closes no client's connection."""
        self.second.client().execute_command("REPLICAOF", "NO", "ONE")
        self.first.client().execute_command("REPLICAOF", "127.0.0.1", self.second.port)
        sentinel = self.sentinel.client(None)
        sentinel.execute_command("SENTINEL", "REMOVE", NAME)
        sentinel.execute_command("SENTINEL", "MONITOR", NAME, "127.0.0.1", self.second.port, 1)
        sentinel.execute_command("SENTINEL", "SET", NAME, "auth-pass", PASSWORD)

    def end(self) -> None:
        for server in (self.sentinel, self.second, self.first):
            server.kill()

    def _server(self, directory: Path, of: Server | None = None) -> Server:
        directory.mkdir()
        port = free_port()
        options = f"--port {port} --bind 127.0.0.1 --dir {directory} --appendonly yes"
        secret = f"--requirepass {PASSWORD} --masterauth {PASSWORD}"
        # Else a replica waits five seconds for others that might come, too.
        quick = ["--save", "", "--repl-diskless-sync-delay", "0"]
        replica = f"--replicaof 127.0.0.1 {of.port}" if of else ""
        server = Server(self._binary, [*f"{options} {secret} {replica}".split(), *quick], port)
        eventually(lambda: self._says(server, "loading", "0"))
        return server

    def _says(self, server: Server, field: str, value: str) -> bool:
        try:
            return str(server.client().info().get(field)) == value
        except redis.RedisError:
            return False

    def _knows_replica(self) -> bool:
        try:
            state = self.sentinel.client(None).sentinel_master(NAME)
        except redis.RedisError:
            return False
        return int(state["num-slaves"]) == 1

    def _primary(self) -> int:
        address = self.sentinel.client(None).sentinel_get_master_addr_by_name(NAME)
        return int(address[1])
