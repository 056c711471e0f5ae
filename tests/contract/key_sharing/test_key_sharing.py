"""Keys that hosts share over one Redis: whose they are, and what can be done to them on the way."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from contract.bus.client import connect
from contract.bus.records.key_board import KeyBoard
from contract.config import Config, GatewayConfig, KeysConfig
from contract.key_sharing import copies
from contract.key_sharing import source as source_module
from contract.key_sharing.copies import copied_keys
from contract.key_sharing.follower import KeyFollower
from contract.key_sharing.shared_keys import (
    BadSeal,
    SealedKeys,
    SharedKeys,
    SharedSecret,
    names_of,
    read_secret,
)
from contract.key_sharing.source import KeySource, OtherSource
from contract.keys import (
    REVOKED_ELSEWHERE_WITHIN_S,
    REVOKED_WITHIN_S,
    KeyFileError,
    make_key,
    read_keys,
)
from contract.paths import ROOT
from contract.process.host_name import VARIABLE
from orchestrator.config.host_checks import look
from orchestrator.config.key_file import KeyFile
from tests.conftest import ValkeyServer

SECRET = SharedSecret(b"s" * 32)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("v"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def db(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    connected = connect(valkey.url)
    await connected.flushall()
    yield connected
    await connected.aclose()


class SharingHost:
    """A host with files of its own."""

    def __init__(self, db: Redis, directory: Path, secret: SharedSecret = SECRET) -> None:
        directory.mkdir(exist_ok=True)
        self.db, self.directory = db, directory
        self.keys = KeyFile(directory / "keys.json")
        self.source = KeySource(db, secret, directory / "keys.json")
        self.copy = directory / "shared_keys.json"
        self.follower = KeyFollower(db, secret, self.copy, directory.name)

    async def follow(self) -> set[str]:
        """Return the names of the keys that this host has then by its copy."""
        await self.follower.follow()
        return self.known()

    def known(self) -> set[str]:
        return {each.name for each in copied_keys(self.copy).values()}


@pytest.fixture
def hosts(db: Redis, tmp_path: Path) -> tuple[SharingHost, SharingHost]:
    return SharingHost(db, tmp_path / "a"), SharingHost(db, tmp_path / "b")


async def board(db: Redis) -> SealedKeys:
    found = await KeyBoard(db).read()
    assert found is not None
    return found


async def test_another_host_has_each_key_as_the_file_of_the_source_says(
    hosts: tuple[SharingHost, SharingHost], db: Redis
) -> None:
    a, b = hosts
    assert await b.follower.follow() is None
    alice = a.keys.add("alice", ("m-*",), group="lab", owner="Ada", note="until May").record
    first = await a.source.publish()
    assert await a.source.publish() == first == await KeyBoard(db).signature()
    await b.follow()
    assert copied_keys(b.copy) == {alice.id: alice}
    assert b.copy.stat().st_mode & 0o777 == 0o600
    revoked = a.keys.revoke("alice")
    assert await a.source.publish() != first
    await b.follow()
    assert copied_keys(b.copy) == {alice.id: revoked}


async def test_who_reads_redis_learns_names_and_no_hash(
    hosts: tuple[SharingHost, SharingHost], db: Redis
) -> None:
    a, b = hosts
    new = a.keys.add("alice")
    await a.source.publish()
    sealed = await board(db)
    everything = b"".join(sealed)
    assert new.record.sha256.encode() not in everything
    assert new.text.split("_")[2].encode() not in everything
    assert names_of(sealed) == {new.record.id: "alice"}
    assert names_of(SealedKeys(b"{", b"")) == {}
    with pytest.raises(BadSeal, match="not signed with the secret"):
        await KeyFollower(db, SharedSecret(b"t" * 32), b.copy, "b").follow()


async def test_who_writes_redis_can_make_no_key_and_bring_none_back(
    hosts: tuple[SharingHost, SharingHost], db: Redis
) -> None:
    a, b = hosts
    a.keys.add("alice")
    await a.source.publish()
    with_alice = await board(db)
    a.keys.revoke("alice")
    a.keys.add("bert")
    await a.source.publish()
    assert await b.follow() == {"alice", "bert"}
    before = b.copy.read_bytes()
    true = await board(db)
    forged = msgspec.json.decode(true.body, type=SharedKeys)
    forged = msgspec.structs.replace(forged, records=(make_key("eve").record,))
    forgery = SealedKeys(msgspec.json.encode(forged), true.signature)
    for sealed, words in ((forgery, "not signed"), (with_alice, "older")):
        await db.hset("ew:keys", mapping=sealed._asdict())
        with pytest.raises(BadSeal, match=words):
            await b.follow()
        assert b.copy.read_bytes() == before
    # The source does not take a forgery for its own, either.
    await db.hset("ew:keys", mapping=forgery._asdict())
    with pytest.raises(BadSeal):
        await a.source.publish()
    await a.source.take_over()
    assert await b.follow() == {"alice", "bert"}


async def test_a_second_source_is_told_of_the_first_and_changes_nothing(
    hosts: tuple[SharingHost, SharingHost], db: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    monkeypatch.setenv(VARIABLE, "a")
    a.keys.add("alice")
    await a.source.publish()
    b.keys.add("bert")
    with pytest.raises(OtherSource, match=r"`a` shared its own at .*`./ew keys share`"):
        await b.source.publish()
    monkeypatch.setenv(VARIABLE, "b")
    assert await b.follow() == {"alice"}
    replaced = await b.source.take_over()
    assert replaced is not None
    assert replaced.host == "a"
    # A process of the new source that has followed until now leaves no copy.
    await b.follower.follow()
    assert not b.copy.exists()
    monkeypatch.setenv(VARIABLE, "a")
    assert await a.follow() == {"bert"}
    a.keys.add("anna")
    with pytest.raises(OtherSource, match="`b`"):
        await a.source.publish()
    b.keys.add("boris")
    monkeypatch.setenv(VARIABLE, "b")
    await b.source.publish()
    monkeypatch.setenv(VARIABLE, "a")
    assert await a.follow() == {"bert", "boris"}


@pytest.mark.parametrize("lost", ["all files", "those since a backup"])
async def test_a_source_that_lost_its_files_takes_no_key_from_the_others(
    hosts: tuple[SharingHost, SharingHost], db: Redis, tmp_path: Path, lost: str
) -> None:
    a, b = hosts
    backup = tmp_path / "backup"
    a.keys.add("alice")
    await a.source.publish()
    shutil.copytree(a.directory, backup)
    a.keys.revoke("alice")
    await a.source.publish()
    shutil.rmtree(a.directory)
    if lost != "all files":
        shutil.copytree(backup, a.directory)
    again = SharingHost(db, a.directory)
    with pytest.raises(OtherSource):
        await again.source.publish()
    await b.follow()
    (alice,) = copied_keys(b.copy).values()
    assert alice.revoked_unix_s is not None


async def test_what_redis_loses_is_published_again_and_known_meanwhile(
    hosts: tuple[SharingHost, SharingHost], db: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    a.keys.add("alice")
    await a.source.publish()
    assert await b.follow() == {"alice"}
    await db.flushall()
    assert await b.follow() == {"alice"}
    # The clock of the source has jumped back meanwhile.
    monkeypatch.setattr(source_module.time, "time", lambda: 1e9)
    a.keys.add("bert")
    await a.source.publish()
    assert await b.follow() == {"alice", "bert"}


async def test_an_older_file_never_replaces_what_a_newer_one_said(
    hosts: tuple[SharingHost, SharingHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    a.keys.add("alice")
    await a.source.publish()
    a.keys.add("bert")
    older = read_keys(a.directory / "keys.json")
    # A command revokes both, and publishes, while this process has read the file and not published.
    a.keys.revoke("alice")
    a.keys.revoke("bert")
    late = KeySource(a.db, SECRET, a.directory / "keys.json")
    replace = late._board.replace

    async def replace_late(before: bytes, sealed: SealedKeys) -> bool:
        monkeypatch.undo()
        await a.source.publish()
        return await replace(before, sealed)

    monkeypatch.setattr(source_module, "read_keys", lambda path: older)
    monkeypatch.setattr(late._board, "replace", replace_late)
    await late.publish()
    await b.follow()
    assert len(copied_keys(b.copy)) == 2
    assert all(each.revoked_unix_s for each in copied_keys(b.copy).values())


@pytest.mark.parametrize("sha256", ["", "no", "a" * 63, "A" * 64, "0x" + "a" * 62])
async def test_a_key_without_a_hash_is_told_and_not_published_again_and_again(
    hosts: tuple[SharingHost, SharingHost], db: Redis, sha256: str
) -> None:
    a, _ = hosts
    a.keys.add("alice")
    a.keys.change("alice", lambda record: msgspec.structs.replace(record, sha256=sha256))
    with pytest.raises(KeyFileError, match="the key file is damaged"):
        await a.source.publish()
    assert await KeyBoard(db).signature() == b""


async def test_processes_of_one_host_are_one_source(
    hosts: tuple[SharingHost, SharingHost], db: Redis
) -> None:
    a, b = hosts
    processes = [KeySource(db, SECRET, a.directory / "keys.json") for _ in range(8)]
    for number in range(5):
        a.keys.add(f"k{number}")
        await asyncio.gather(*(each.publish() for each in processes))
    await a.source.publish()
    assert await b.follow() == {f"k{number}" for number in range(5)}


async def test_a_key_ends_on_a_host_whose_clock_is_behind(
    hosts: tuple[SharingHost, SharingHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = hosts
    now = time.time()
    revoked, expired = a.keys.add("alice"), a.keys.add("bert", ("*",), now - 1)
    later, rotated = a.keys.add("carla", ("*",), now + 60), a.keys.add("dora")
    a.keys.revoke("alice")
    a.keys.rotate("dora", overlap_s=60)
    await a.source.publish()
    await b.follow()
    monkeypatch.setattr(copies.time, "time", lambda: now - 1000)
    found = copied_keys(b.copy)
    live = {key for key, record in found.items() if record.is_live(now - 1000)}
    assert live.isdisjoint({revoked.record.id, expired.record.id})
    assert live >= {later.record.id, rotated.record.id}
    assert found[later.record.id] == later.record


async def test_a_copy_that_is_damaged_is_made_anew(
    hosts: tuple[SharingHost, SharingHost],
) -> None:
    a, b = hosts
    a.keys.add("alice")
    await a.source.publish()
    await b.follow()
    b.copy.write_bytes(b"[")
    with pytest.raises(KeyFileError, match="damaged"):
        b.known()
    assert await b.follow() == {"alice"}


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "No such file"),
        (b"x" * 31, 0o600, "fewer than 32 characters; `openssl rand"),
        (b"x" * 31 + b"\n", 0o600, "fewer than 32"),
        (b"x" * 32, 0o604, "chmod 600"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_with_its_mending(
    tmp_path: Path, content: Any, mode: int, words: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(KeyFileError, match=words):
        read_secret(path)
    # `./ew start` and `config check` warn, where a gateway is to run.
    keys = KeysConfig(source="front-1", secret_file=str(path))
    found = list(look(Config(keys=keys), []))
    assert [(each.keys, each.is_fatal) for each in found] == [(["keys", "secret_file"], False)]
    assert re.search(words, found[0].message)
    assert not list(look(Config(keys=keys, gateway=GatewayConfig(hosts=("none",))), []))


def test_the_times_in_the_documentation_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "keys.md").read_text()
    assert f"opens within {REVOKED_ELSEWHERE_WITHIN_S} s on the other hosts" in page
    assert f"{REVOKED_WITHIN_S} s on the source and {REVOKED_ELSEWHERE_WITHIN_S} s" in page
