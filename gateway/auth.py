"""Who asks: every route needs an API key, but for those that are named here."""

from __future__ import annotations

import ipaddress
import logging
import time
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from contract.keys import KeyFileError, KeyRecord, find_key, is_well_formed, read_keys
from gateway.errors import ApiError
from gateway.headers import exchange_of, header
from gateway.watched_file import WatchedFile

log = logging.getLogger(__name__)

#: Probes have no key, and learn nothing of the installation.
OPEN_PATHS: Final = frozenset({"/health/live", "/health/ready"})
#: Without a key for programs on this machine: a Prometheus beside us, a person at its browser.
#: What came through a proxy is not from this machine.
LOCAL_PATHS: Final = frozenset({"/metrics", "/docs", "/openapi.json"})
_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
_LOOK_EVERY_S: Final = 0.5
_FAILURES_PER_MINUTE: Final = 30
_REMEMBERED_CLIENTS: Final = 10_000


class KeyRing:
    """The keys of the key file: a new one opens at once, a revoked one no longer than
    `_LOOK_EVERY_S`."""

    def __init__(self, path: Path) -> None:
        #: Why nobody can be let in, if the file cannot be used.
        self.problem = ""
        self._records: dict[str, KeyRecord] = {}
        self._file = WatchedFile(path)
        self._looked = time.monotonic()
        self._read()

    def find(self, text: str) -> KeyRecord | None:
        """The live record of a key. Raises `ApiError` while the key file cannot be used."""
        self.refresh()
        record = self._find(text)
        # It may just have been made. What is no key at all costs no look; what is none of ours
        # costs one `stat`.
        if record is None and is_well_formed(text) and self._file.has_changed():
            self._read()
            record = self._find(text)
        return record

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        if self._file.has_changed() or self.problem:
            self._read()

    def _find(self, text: str) -> KeyRecord | None:
        if self.problem:
            raise ApiError("keys_unreadable", "API keys cannot be checked at the moment")
        return find_key(self._records, text, time.time())

    def _read(self) -> None:
        try:
            self._records, problem = read_keys(self._file.path), ""
        except (KeyFileError, OSError) as error:
            self._records, problem = {}, str(error)
        if problem and problem != self.problem:
            log.error("no request is let in: %s", problem)
        self.problem = problem


class FailureBudget:
    """How many wrong keys one address may present, so that guessing is slow and seen."""

    def __init__(self) -> None:
        self._minute = 0
        self._failures: dict[str, int] = {}

    def spend(self, address: str) -> None:
        """Raises `ApiError` when the address has none left in this minute."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute or len(self._failures) > _REMEMBERED_CLIENTS:
            self._minute = minute
            self._failures.clear()
        failures = self._failures[address] = self._failures.get(address, 0) + 1
        if failures == _FAILURES_PER_MINUTE:
            log.warning("%s presents wrong API keys, again and again", address)
        if failures > _FAILURES_PER_MINUTE:
            raise ApiError("too_many_failures", "too many wrong API keys; wait a minute")


class Doorkeeper:
    """The dependency of the whole app: a route that is not named above needs a key."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._budget = FailureBudget()

    async def check(self, request: Request) -> None:
        """Raises `ApiError`, or notes the key in the exchange."""
        scope = request.scope
        path = scope["path"]
        if path in OPEN_PATHS or (path in LOCAL_PATHS and _is_local(scope)):
            return
        record = self._keys.find(_presented(scope))
        if record is None:
            self._budget.spend(_address(scope))
            raise ApiError("invalid_api_key", "this API key is unknown, expired or revoked")
        if path in LOCAL_PATHS and "*" not in record.models:
            raise ApiError("not_found", f"nothing is at {path}")
        exchange_of(scope).key = record


def _presented(scope: Scope) -> str:
    """The key that a request gives. Raises `ApiError` if it gives none, or two."""
    headers = scope["headers"]
    own = header(headers, b"x-api-key")
    authorization = header(headers, b"authorization") or b""
    scheme, _, token = authorization.partition(b" ")
    bearer = token.strip() if scheme.lower() == b"bearer" and token.strip() else None
    if own is not None and bearer is not None and own != bearer:
        message = "X-API-Key and Authorization give different keys; send one of them"
        raise ApiError("conflicting_api_keys", message)
    presented = own if own is not None else bearer
    if not presented:
        message = "send an API key as `X-API-Key: ...` or `Authorization: Bearer ...`"
        raise ApiError("missing_api_key", message)
    return presented.decode("latin-1")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


def _is_local(scope: Scope) -> bool:
    """Whether a request was made by a program on this machine, and not for somebody else."""
    try:
        is_loopback = ipaddress.ip_address(_address(scope)).is_loopback
    except ValueError:
        return False
    return is_loopback and not any(header(scope["headers"], name) for name in _FORWARDED)
