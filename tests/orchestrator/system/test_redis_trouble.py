"""A server whose disk or memory is full answers, and says so in its own words; these are ours."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from contract.bus.client import connect
from contract.host_beat import HostBeat
from orchestrator.supervisor.observation import Observation, Subject
from orchestrator.supervisor.observer import Observer
from orchestrator.system.redis_trouble import in_words, troubles
from tests.conftest import valkey_binary
from tests.waiting import eventually


class Server:
    """A Valkey that will not get far."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.url = f"unix://{directory / 'v.sock'}"
        command = [valkey_binary(), "--port", "0", "--unixsocket", str(directory / "v.sock")]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        eventually(lambda: _listens(directory / "v.sock"))

    def fill(self) -> str:
        """Write until it refuses; its words."""

        async def write() -> str:
            db = connect(self.url, connections=1)
            try:
                for n in range(2000):
                    await db.set(f"k{n}", b"x" * 16_384)
                    await asyncio.sleep(0.001 if n < 1000 else 0.05)
            except RedisError as error:
                return str(error)
            finally:
                await db.aclose()
            return ""

        return asyncio.run(write())

    def observed(self) -> tuple[Observation, list[Any]]:
        async def look() -> tuple[Observation, list[Any]]:
            subject = Subject(self.url, frozenset(), None, {}, HostBeat("here"))
            observer = Observer(lambda: subject, lambda _: None)
            seen = await observer._observe(subject)
            db = connect(self.url, connections=1)
            found = list(troubles(await db.info()))
            await db.aclose()
            await observer._disconnect()
            return seen, found

        return asyncio.run(look())


def _listens(path: Path) -> bool:
    """Its file is there a moment before it takes connections."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def servers() -> Any:
    made: list[Server] = []
    yield made
    for server in made:
        server.process.kill()
        server.process.wait()


def test_a_full_memory_is_named(tmp_path: Path, servers: list[Server]) -> None:
    options = ["--maxmemory", "8mb", "--maxmemory-policy", "noeviction", "--dir", str(tmp_path)]
    server = Server(tmp_path, *options, "--save", "")
    servers.append(server)
    assert "command not allowed when used memory" in server.fill(), "its memory is not full"
    seen, found = server.observed()
    assert seen.redis_answers
    assert not seen.redis_error, "it beats all the same"
    assert len(found) == 1
    assert "of 8 MiB" in found[0].seen
    assert found[0].fix.startswith("its memory is full")


def test_a_full_disk_is_named(tmp_path: Path, small_disk: Path, servers: list[Server]) -> None:
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(small_disk)]
    server = Server(tmp_path, *options, "--save", "")
    servers.append(server)
    said = server.fill()
    assert "MISCONF" in said, said or "its disk is not full"
    seen, found = server.observed()
    assert seen.redis_answers
    assert seen.redis_error.startswith("its disk is full")
    assert "`df -h`" in seen.redis_error
    assert "df -h" in found[0].fix


@pytest.mark.parametrize(
    ("used", "words"),
    [(74, None), (75, "its memory is nearly full: nothing"), (98, "full: nothing")],
)
def test_a_memory_is_told_of_when_nothing_new_is_let_in(used: int, words: str | None) -> None:
    found = [each.fix for each in troubles({"maxmemory": 100, "used_memory": used})]
    assert (words is None and not found) or words in found[0]
    assert in_words("command not allowed when used memory > 'maxmemory'.").startswith("its memory")


def test_a_server_that_drops_keys_is_told_of_while_it_runs() -> None:
    """It is refused at the start; but it may be set, or another one be promoted, later."""
    (found,) = troubles({"maxmemory_policy": "allkeys-lru", "maxmemory": 10, "used_memory": 1})
    assert "maxmemory-policy allkeys-lru" in found.seen
    assert "CONFIG SET maxmemory-policy noeviction" in found.fix
    assert not [*troubles({"maxmemory_policy": "noeviction", "maxmemory": 10, "used_memory": 1})]


def test_other_words_stay_as_they_are() -> None:
    assert in_words("no answer") == "no answer"
    assert in_words("MISCONF Errors writing to the AOF file: I/O error").startswith(
        "it cannot write"
    )
