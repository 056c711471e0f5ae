"""`ew keys` and `ew usage` on hosts that share keys."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.records.use_progress import UseProgress
from contract.key_sharing.follower import KeyFollower
from contract.key_sharing.shared_keys import read_secret
from contract.key_sharing.source import KeySource
from orchestrator.config.key_file import KeyFile
from orchestrator.errors import UserError
from tests.conftest import ValkeyServer
from tests.gateway.api.native.test_usage import use
from tests.orchestrator.conftest import Host, Terminal
from tests.orchestrator.terminal import Result

SOURCE, OTHER = "front-1", "front-2"


class SharingHosts:
    """The commands of two hosts on one Redis; the first is the source, and no gateway runs."""

    def __init__(self, terminal: Terminal, valkey: ValkeyServer, directory: Path) -> None:
        self.terminal, self.url = terminal, valkey.url
        self.directory = directory
        secret = directory / "secret"
        secret.write_text("s" * 32)
        secret.chmod(0o600)
        self.secret = read_secret(secret)
        self.settings = {
            "EW_REDIS__URL": valkey.url,
            "EW_KEYS__SOURCE": SOURCE,
            "EW_KEYS__SECRET_FILE": str(secret),
        }

    def state(self, host: str) -> Path:
        return self.directory / host

    def keys(self, host: str) -> KeyFile:
        return KeyFile(self.state(host) / "keys.json")

    def run(self, host: str, *arguments: str) -> Result:
        where = {"EW_HOST_NAME": host, "EW_STATE_DIR": str(self.state(host))}
        return self.terminal.run(*arguments, **self.settings, **where)

    def gateways_look(self) -> None:
        """Do as their gateways do."""

        async def look() -> None:
            db = connect(self.url)
            await KeySource(db, self.secret, self.state(SOURCE) / "keys.json").publish()
            copy = self.state(OTHER) / "shared_keys.json"
            await KeyFollower(db, self.secret, copy, OTHER).follow()
            await db.aclose()

        asyncio.run(look())


@pytest.fixture
def hosts(
    host: Host,
    terminal: Terminal,
    own_valkey: ValkeyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SharingHosts:
    terminal.configure(a={})
    monkeypatch.setenv("EW_HOST_NAME", SOURCE)
    return SharingHosts(terminal, own_valkey, tmp_path)


def test_the_source_changes_keys_and_another_host_shows_them(
    hosts: SharingHosts, own_valkey: ValkeyServer
) -> None:
    hosts.keys(SOURCE).add("alice", owner="Ada")
    hosts.keys(OTHER).add("of-before")
    hosts.gateways_look()
    assert "the other hosts follow within 3 s" in hosts.run(SOURCE, "keys", "add", "bert").err
    hosts.gateways_look()
    listed = hosts.run(OTHER, "keys", "list")
    assert "  Ada  " in listed.out
    assert "2 are keys of `front-1`" in listed.err
    assert "; 1 more open on this host alone" in listed.err
    other = hosts.keys(OTHER)
    for change in (other.revoke, other.find, other.describe):
        with pytest.raises(UserError, match="`bert` is a key of the host `front-1`"):
            change("bert")
    refused = hosts.run(OTHER, "keys", "add", "eve")
    assert (refused.code, refused.out) == (1, "")
    assert "keys for all hosts are made on `front-1`" in refused.err
    other.revoke("of-before")
    own_valkey.kill()
    alone = hosts.run(SOURCE, "keys", "revoke", "bert")
    assert alone.code == 0
    assert "other hosts do not know of it yet: no Redis answers" in alone.err
    own_valkey.start()


async def used(url: str, key: str) -> None:
    db = connect(url)
    await UseProgress(db, "a").open()
    await use(JobQueue(db, "a"), db, key, 5)
    await db.aclose()


def test_usage_has_the_names_of_keys_of_another_host(hosts: SharingHosts) -> None:
    alice = hosts.keys(SOURCE).add("alice").record
    hosts.gateways_look()
    asyncio.run(used(hosts.url, alice.id))
    # A host without a gateway, and without the secret.
    hosts.settings["EW_KEYS__SECRET_FILE"] = "/none"
    assert f"{alice.id} alice " in hosts.run("gpu-1", "usage").out
    (listed,) = json.loads(hosts.run(SOURCE, "keys", "list", "--json").out)
    assert (listed["last_used_unix_s"] > alice.created_unix_s - 1, listed["host"]) == (True, None)


def test_only_the_source_that_is_named_replaces_the_keys_of_another(hosts: SharingHosts) -> None:
    hosts.keys(SOURCE).add("alice")
    hosts.gateways_look()
    refused = hosts.run(OTHER, "keys", "share")
    assert refused.code == 1
    assert "`keys.source` is not this host, `front-2`" in refused.err
    hosts.keys(OTHER).add("bert")
    hosts.settings["EW_KEYS__SOURCE"] = OTHER
    said = hosts.run(OTHER, "keys", "share").err
    assert "all hosts have the 1 keys of this one instead of the 1 of `front-1`" in said
    assert set(hosts.keys(OTHER).all()) == set(hosts.keys(OTHER).records())
    hosts.settings["EW_KEYS__SOURCE"] = SOURCE
    assert "`front-2` shared its own at" in hosts.run(SOURCE, "keys", "add", "anna").err
