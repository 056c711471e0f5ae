"""Which server is started, and what is asked of one that ew does not run."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.system import valkey
from orchestrator.system.host_memory import host_memory
from orchestrator.system.valkey import check_external, find_server, server_command, usual_memory
from tests.conftest import ValkeyServer


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))


def system_server(directory: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> Path:
    """Only a `redis-server` of this version is to be found."""
    program = directory / "redis-server"
    program.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(valkey, "_packaged_server", lambda: None)
    return program


def test_the_packaged_server_is_the_one_we_know() -> None:
    binary = find_server()
    build = f"{platform.system().lower()}-{platform.machine()}"
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    assert digest == valkey._KNOWN_BINARIES[build]


def test_a_changed_binary_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict.fromkeys(valkey._KNOWN_BINARIES, "0" * 64)
    monkeypatch.setattr(valkey, "_KNOWN_BINARIES", known)
    with pytest.raises(UserError, match="not the Valkey server that ew was tested with"):
        server_command()


def test_a_system_server_is_the_second_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_server() != system_server(tmp_path, monkeypatch, "7.2.4")
    assert find_server() == tmp_path / "redis-server"


def test_an_old_system_server_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_server(tmp_path, monkeypatch, "6.2.14")
    with pytest.raises(UserError, match="no Valkey or Redis server") as caught:
        find_server()
    assert "redis.url" in caught.value.hint


async def test_a_good_external_server_has_no_warnings(redis_url: str) -> None:
    assert await check_external(redis_url) == []


async def test_a_server_that_forgets_is_warned_about_and_one_that_evicts_is_refused(
    own_valkey: ValkeyServer,
) -> None:
    import redis

    with redis.Redis(unix_socket_path=str(own_valkey.socket)) as client:
        client.config_set("appendonly", "no")
        assert "append-only" in (await check_external(own_valkey.url))[0]
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(UserError, match="allkeys-lru"):
            await check_external(own_valkey.url)


async def test_a_server_that_is_too_old_is_refused() -> None:
    class Old:
        async def info(self) -> dict[str, object]:
            return {"redis_version": "6.2.14", "aof_enabled": 1}

    with pytest.raises(UserError, match=r"Redis 6\.2\.14 is too old"):
        await valkey._check(Old())


async def test_a_node_of_a_cluster_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="ew-") as directory:
        server = ValkeyServer(Path(directory), "--cluster-enabled yes")
        server.start()
        try:
            with pytest.raises(UserError, match="a node of a cluster"):
                await check_external(server.url)
        finally:
            server.kill()


async def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Redis does not answer"):
        await check_external(f"unix://{tmp_path}/none.sock")


async def test_a_wrong_login_is_named(own_valkey: ValkeyServer) -> None:
    import redis

    with redis.Redis(unix_socket_path=str(own_valkey.socket)) as client:
        client.config_set("requirepass", "right")
    with pytest.raises(UserError, match="refuses the login"):
        await check_external(f"unix://:wrong@{own_valkey.socket}")
    with pytest.raises(UserError, match="refuses the login"):
        await check_external(own_valkey.url)


@pytest.mark.parametrize(
    ("host_gib", "server_mib"), [(1, 256), (4, 512), (24, 3072), (64, 8192), (1024, 8192)]
)
def test_the_server_may_take_a_part_of_the_hosts_memory(host_gib: int, server_mib: int) -> None:
    assert usual_memory(host_gib * 1024**3) == server_mib * 1024**2


def test_the_servers_memory_is_bounded_and_nothing_is_dropped_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    usual, given = server_command(), server_command(123_456_789)
    assert int(usual[usual.index("--maxmemory") + 1]) == usual_memory(host_memory().total)
    assert given[given.index("--maxmemory") + 1] == "123456789"
    assert given[given.index("--maxmemory-policy") + 1] == "noeviction"
