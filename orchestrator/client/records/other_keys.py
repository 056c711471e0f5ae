"""API keys of another host, over the administration API of its gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from contract.keys import KeyRecord, NewKey
from contract.limits import MOST
from orchestrator.client.other_host import OtherHost
from orchestrator.config.key_file import check_words, find_live

_NO_LIMIT: Final = "none"
#: Fields of a listed key that its record has by another name, or not at all.
_NOT_OF_A_RECORD: Final = ("state", "last_used_unix_s", "host", "anonymous", "anonymous_from")


class ListedKeys(NamedTuple):
    """Keys with what is known of their use. `hosts` are those whose keys they are, if not the
    host's that was asked."""

    records: dict[str, KeyRecord]
    last_uses: dict[str, float]
    hosts: dict[str, str]


class OtherKeys:
    """The same as `KeyFile`, for another host. Their secrets and hashes stay where they are."""

    def __init__(self, host: OtherHost) -> None:
        self._host = host

    def listed(self) -> ListedKeys:
        """Return all keys. Raises `UserError`, as all do here."""
        found = ListedKeys({}, {}, {})
        for each in self._host.ask("GET", "keys")["keys"]:
            key_id = each["id"]
            found.records[key_id] = self._record(each)
            if each["last_used_unix_s"] is not None:
                found.last_uses[key_id] = each["last_used_unix_s"]
            if each["host"]:
                found.hosts[key_id] = each["host"]
        return found

    def require_source(self) -> None:
        """The gateway refuses by itself what is done on another host."""

    def add(
        self,
        name: str,
        models: tuple[str, ...] = ("*",),
        expires_unix_s: float | None = None,
        **rights: Any,
    ) -> NewKey:
        """Make a key; of its record no more than the id is known."""
        asked: dict[str, Any] = {"name": name, "models": models, **rights}
        if expires_unix_s is not None:
            asked["expires_in_s"] = expires_unix_s - time.time()
        return self._new(self._host.ask("POST", "keys", json=asked))

    def find(self, key: str) -> KeyRecord:
        """Return the live key with this id or name."""
        return find_live(self.listed().records, key)

    def change(self, key: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Change the group and the limits of a live key."""
        before = self.find(key)
        after = change(before)
        limits = {
            name: _NO_LIMIT if n == MOST else n
            for name in after.limits.__struct_fields__
            if (n := getattr(after.limits, name)) != getattr(before.limits, name)
        }
        return self._patch(before.id, group=after.group, limits=limits)

    def describe(self, key: str, **words: str) -> KeyRecord:
        """Change the `name`, `owner` or `note` of a live key."""
        check_words(**words)
        return self._patch(self.find(key).id, **words)

    def revoke(self, key: str) -> KeyRecord:
        """End a key and its open answers."""
        record = self.find(key)
        self._host.ask("DELETE", _path(record.id))
        return record

    def rotate(self, key: str, overlap_s: float) -> NewKey:
        """Make a new key with the same rights; the old one works for `overlap_s` longer."""
        path = f"{_path(self.find(key).id)}/rotate"
        return self._new(self._host.ask("POST", path, json={"overlap_s": overlap_s}))

    def _patch(self, key_id: str, **changes: Any) -> KeyRecord:
        return self._record(self._host.ask("PATCH", _path(key_id), json=changes))

    def _record(self, told: dict[str, Any]) -> KeyRecord:
        given = {name: value for name, value in told.items() if name not in _NOT_OF_A_RECORD}
        limits = {name: MOST if n == _NO_LIMIT else n for name, n in told["limits"].items()}
        # A release before this one tells whether, but not for whom.
        anonymous = told.get("anonymous_from", "local" if told["anonymous"] else "")
        record = given | {"limits": limits, "anonymous": anonymous, "sha256": ""}
        return self._host.read(record, KeyRecord)

    def _new(self, told: dict[str, str]) -> NewKey:
        return NewKey(told["key"], KeyRecord(id=told["id"], sha256=""))


def _path(key_id: str) -> str:
    return f"keys/{quote(key_id, safe='')}"
