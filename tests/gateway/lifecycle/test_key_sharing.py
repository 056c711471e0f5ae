"""The keys of a host's gateway, where several hosts share them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.bus.client import connect
from contract.bus.records.key_board import KeyBoard
from contract.config import KeysConfig
from contract.key_sharing.shared_keys import SealedKeys
from contract.keys import REVOKED_ELSEWHERE_WITHIN_S, REVOKED_WITHIN_S
from contract.paths import make_private
from contract.process.host_name import VARIABLE
from contract.process.tasks import cancel_and_wait
from gateway.lifecycle import key_sharing
from gateway.lifecycle.key_sharing import KeySharing
from orchestrator.config.key_file import KeyFile
from tests.conftest import ValkeyServer
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.waiting import eventually, until

SOURCE, OTHER = "front-1", "front-2"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("s" * 32)
    path.chmod(0o600)
    return path


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_EVERY_S", "_LOOK_AGAIN_AFTER_S"):
        monkeypatch.setattr(key_sharing, name, 0.02)


@asynccontextmanager
async def sharing(
    url: str, directory: Path, secret: Path, source: str = SOURCE
) -> AsyncIterator[KeySharing]:
    """A host's sharing as in its gateway: its name is that of its directory."""
    make_private(directory)
    db = connect(url)
    config = KeysConfig(source=source, secret_file=str(secret))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, directory.name)
        shared = KeySharing(db, config, directory / "keys.json")
    running = asyncio.create_task(shared.run())
    try:
        yield shared
    finally:
        await cancel_and_wait([running])
        await db.aclose()


async def test_a_key_opens_at_the_other_host_until_it_is_revoked(
    own_valkey: ValkeyServer,
    tmp_path: Path,
    secret: Path,
    pace: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, SOURCE)
    keys, own = KeyFile(tmp_path / SOURCE / "keys.json"), KeyFile(tmp_path / OTHER / "keys.json")
    of_the_host = own.add("own").text
    async with sharing(own_valkey.url, tmp_path / OTHER, secret) as other:
        await until(lambda: "`front-1` has shared no keys yet" in other.problem)
        alice = keys.add("alice").text
        assert other.store.find(alice) is None
        async with sharing(own_valkey.url, tmp_path / SOURCE, secret) as source:
            await until(lambda: other.store.find(alice) is not None)
            assert other.problem == source.problem == ""
            assert source.store.find(of_the_host) is None
            bert = keys.add("bert")
            await until(lambda: other.store.find(bert.text) is not None)
            keys.revoke("bert")
            await until(lambda: not other.store.is_live(bert.record))
            assert other.store.find(of_the_host) is not None
        # The source is away, and then Redis too: what was known last holds, also after a restart.
        assert other.store.find(alice) is not None
        own_valkey.kill()
        async with sharing(own_valkey.url, tmp_path / OTHER, secret) as again:
            assert again.store.find(alice) is not None
            assert again.store.find(bert.text) is None
        own_valkey.start()
    # A host that follows no more forgets what it followed.
    assert KeySharing(None, KeysConfig(), tmp_path / OTHER / "keys.json").store.find(alice) is None


async def test_what_is_wrong_with_the_sharing_is_told_until_it_is_mended(
    own_valkey: ValkeyServer,
    tmp_path: Path,
    secret: Path,
    pace: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, SOURCE)
    KeyFile(tmp_path / SOURCE / "keys.json").add("alice")
    wrong = tmp_path / "missing"
    async with sharing(own_valkey.url, tmp_path / SOURCE, wrong) as source:
        await until(lambda: f"{wrong}: No such file" in source.problem)
        await asyncio.to_thread(secret.rename, wrong)
        await until(lambda: source.problem == "")
        secret = wrong
        async with sharing(own_valkey.url, tmp_path / OTHER, secret, source=OTHER) as second:
            await until(lambda: "`./ew keys share` replaces them" in second.problem)
            assert source.problem == ""
        async with sharing(own_valkey.url, tmp_path / "c", secret, source=OTHER) as third:
            await until(lambda: "`keys.source` is `front-2`; name one" in third.problem)
        async with sharing(own_valkey.url, tmp_path / OTHER, secret) as other:
            copy = tmp_path / OTHER / "shared_keys.json"
            await until(copy.exists)
            db = connect(own_valkey.url)
            sealed = await KeyBoard(db).read()
            assert sealed is not None
            await db.hset("ew:keys", mapping=SealedKeys(sealed.body, b"none")._asdict())
            await until(lambda: "not signed with the secret" in other.problem)
            assert len(other.store._records) == 1
            await db.delete("ew:keys")
            await until(lambda: other.problem == source.problem == "")
            await db.aclose()


@pytest.fixture
def fronts(
    own_valkey: ValkeyServer,
    new_gateway: Callable[..., Gateway],
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways of two hosts; the first is the source."""
    made = []
    for name in (SOURCE, OTHER):
        monkeypatch.setenv(VARIABLE, name)
        config: dict[str, Any] = {
            "redis": {"url": own_valkey.url},
            "keys": {"source": SOURCE, "secret_file": str(secret)},
        }
        made.append(new_gateway(own_valkey.url, **config))
    yield made[0], made[1]


def check_who_changes_keys(source: Gateway, other: Gateway, keys: KeyFile) -> None:
    admin = {"X-API-Key": keys.add("ops", admin=True).text}

    def listed(gateway: Gateway) -> dict[str, dict[str, Any]]:
        # So seldom that the budget of wrong keys lasts.
        time.sleep(0.2)
        answer = httpx.get(f"{gateway.url}/api/v1/admin/keys", headers=admin)
        keys = answer.json()["keys"] if answer.status_code == 200 else []
        return {each["name"]: each for each in keys}

    eventually(lambda: listed(other), REVOKED_ELSEWHERE_WITHIN_S)
    assert listed(source)["alice"]["host"] == ""
    alice = listed(other)["alice"]
    assert alice["host"] == SOURCE
    url = f"{other.url}/api/v1/admin/keys"
    for refused in (
        httpx.post(url, json={"name": "eve"}, headers=admin),
        httpx.delete(f"{url}/{alice['id']}", headers=admin),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "refused")
        assert f"`{SOURCE}`, whose keys this host follows" in refused.json()["message"]


@pytest.mark.slow
async def test_two_gateways_on_one_valkey(
    fronts: tuple[Gateway, Gateway], own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = fronts
    keys = KeyFile(source.directory / "keys.json")
    alice = keys.add("alice")

    def status(gateway: Gateway, key: str = alice.text) -> int:
        # As seldom.
        time.sleep(0.2)
        return httpx.get(f"{gateway.url}/api/v1/models", headers={"X-API-Key": key}).status_code

    assert status(source) == 200
    eventually(lambda: status(other) == 200, REVOKED_ELSEWHERE_WITHIN_S)
    check_who_changes_keys(source, other, keys)
    # An open answer of the other host ends with the key.
    async with (
        ScriptedWorker(own_valkey.url, "m") as worker,
        httpx.AsyncClient(headers={"X-API-Key": alice.text}, timeout=30) as client,
    ):
        body = {"modelId": "m", "prompt": "x"}
        answering = asyncio.create_task(client.post(f"{other.url}/api/v1/inference", json=body))
        await worker.next()
        keys.revoke("alice")
        began = time.monotonic()
        answer = await answering
        assert (answer.status_code, answer.json()["code"]) == (401, "key_ended")
        assert time.monotonic() - began < REVOKED_ELSEWHERE_WITHIN_S
        assert status(other) == 401
        eventually(lambda: status(source) == 401, REVOKED_WITHIN_S)
    bert = keys.add("bert").text
    eventually(lambda: status(other, bert) == 200, REVOKED_ELSEWHERE_WITHIN_S)
    source.kill()
    own_valkey.kill()
    assert status(other, bert) == 200
    monkeypatch.setenv(VARIABLE, OTHER)
    assert other.stop() == 0
    other.start()
    assert status(other, bert) == 200
    assert status(other) == 401
