"""The API keys that a command is about: those of this host, or with `--host` of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.keys import KeyRecord
from contract.paths import published_keys_path
from orchestrator.cli.configure.key_table import origin
from orchestrator.config.key_file import KeyFile
from orchestrator.config.named_host import named_host
from orchestrator.terminal.speech import printable

if TYPE_CHECKING:
    from orchestrator.client.records.other_keys import OtherKeys


def keys_meant() -> KeyFile | OtherKeys:
    """Return the keys of the host that the command is about."""
    return _other_keys(url) if (url := named_host()) else KeyFile()


def _other_keys(url: str) -> OtherKeys:
    # Only these need httpx.
    from orchestrator.client.other_host import other_host
    from orchestrator.client.records.other_keys import OtherKeys

    return OtherKeys(other_host(url))


def listed_keys() -> tuple[dict[str, KeyRecord], dict[str, float] | None, dict[str, str], str]:
    """Return the keys, when they were used, whose they are, and a remark about that."""
    if url := named_host():
        records, last_uses, hosts = _other_keys(url).listed()
        names = ", ".join(f"`{printable(each)}`" for each in sorted(set(hosts.values())))
        return records, last_uses, hosts, f"{len(hosts)} are keys of {names}" if hosts else ""
    file = KeyFile()
    shared, records = file.shared(), file.all()
    uses = _last_uses() if records else None
    if shared is None:
        return records, uses, {}, ""
    hosts = {each.id: shared.host for each in shared.records}
    return records, uses, hosts, origin(shared, here=len(records) - len(hosts))


def tell_other_hosts() -> None:
    """Publish a change, where keys are those of several hosts. A gateway does so by itself."""
    if not named_host() and published_keys_path().exists():
        # Slow to import: a client of Redis, and the configuration.
        from orchestrator.client.records.key_sharing import publish_change

        publish_change()


def _last_uses() -> dict[str, float] | None:
    # Slow to import: a client of Redis, and the configuration.
    from orchestrator.client.records.last_uses import known_last_uses

    return known_last_uses()
