"""Authentication: every route needs an API key, but for those that are named here."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from contract.config import GatewayConfig
from contract.keys import KeyRecord
from contract.process.ports import is_loopback
from gateway.http.errors import ApiError
from gateway.http.headers import Headers, context_of, header
from gateway.http.hosts import Hosts
from gateway.http.key_store import KeyStore
from gateway.http.sessions import is_own_page, session_of

log = logging.getLogger(__name__)

#: Probes have no key, and learn nothing of the installation.
OPEN_PATHS: Final = frozenset({"/health/live", "/health/ready", "/health", "/ping"})
#: The paths of operators: for keys that see everything, or without a key on the listener that
#: the configuration names for it.
METRICS_PATHS: Final = frozenset({"/metrics", "/metrics/vllm"})
OPERATOR_PATHS: Final = METRICS_PATHS | {"/openapi.json", "/docs"}
#: The console's page, the same for everybody: whoever has no session is asked for a key there.
CONSOLE: Final = "/console"
_ASK_FOR_PASSWORD: Final = {"www-authenticate": 'Basic realm="ew: any name, and an API key"'}
_OF_PROXIES: Final = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")
_FAILURES_PER_MINUTE: Final = 30
_REMEMBERED_CLIENTS: Final = 10_000


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


class Authenticator:
    """The dependency of the whole app: a route that is not named above needs a key."""

    def __init__(self, keys: KeyStore, gateway: GatewayConfig) -> None:
        self._keys = keys
        self._budget = FailureBudget()
        self._admin_port = gateway.admin_port
        self._origins = frozenset(gateway.allowed_origins)
        self._hosts = Hosts(gateway.host, gateway.allowed_hosts)
        self._admin_hosts = Hosts(gateway.admin_host, gateway.allowed_hosts)

    async def check(self, request: Request) -> None:
        """Raises `ApiError`, or notes the key in the context."""
        scope = request.scope
        path = scope["path"]
        if path in OPEN_PATHS:
            return
        is_admin = self._admin_port is not None and scope["server"][1] == self._admin_port
        (self._admin_hosts if is_admin else self._hosts).check(scope["headers"])
        if path in ("/", CONSOLE) or path.startswith(f"{CONSOLE}/"):
            return
        is_operators = path in OPERATOR_PATHS or path.startswith("/docs/")
        if is_operators and is_admin:
            return
        record = self._record_of(scope, is_operators=is_operators)
        if is_operators and not _may_operate(record, path):
            raise ApiError("not_found", f"nothing is at {path}")
        context_of(scope).key = record

    def sign_in(self, scope: Scope, text: str) -> KeyRecord:
        """Return the record of a key that is entered in the console. Raises `ApiError`."""
        if not is_own_page(scope["headers"]):
            raise ApiError("not_found", f"nothing is at {scope['path']} for other pages")
        return self._find(scope, text, {})

    def signed_in(self, scope: Scope) -> KeyRecord | None:
        """Return the record of a session's key, if a request has a session that goes on. Raises
        `ApiError` while the key file cannot be used."""
        session = session_of(scope["headers"])
        record = self._keys.by_id(session.key_id) if session else None
        return record if session and record and session.is_of(record) else None

    def _record_of(self, scope: Scope, *, is_operators: bool) -> KeyRecord:
        """Raises `ApiError`."""
        hint = _ASK_FOR_PASSWORD if is_operators else {}
        presented = _presented(scope["headers"]) or (
            _password(scope["headers"]) if is_operators else None
        )
        if not presented:
            found = self.signed_in(scope) or (None if is_operators else self._anonymous(scope))
            if found is not None:
                return found
        if not presented:
            message = "send an API key as `X-API-Key: ...` or `Authorization: Bearer ...`"
            raise ApiError("missing_api_key", message, headers=hint)
        return self._find(scope, presented.decode("latin-1"), hint)

    def _find(self, scope: Scope, text: str, hint: Mapping[str, str]) -> KeyRecord:
        record = self._keys.find(text)
        if record is None:
            self._budget.spend(address_of(scope))
            message = "this API key is unknown, expired or revoked"
            raise ApiError("invalid_api_key", message, headers=hint)
        return record

    def _anonymous(self, scope: Scope) -> KeyRecord | None:
        """The record of requests without a key, if this may be one. A page of another site can have
        a browser on this host send some: those are none of them."""
        record = self._keys.anonymous()
        if record is None or self._is_of_another_site(scope["headers"]):
            return None
        is_from_here = (
            is_loopback(address_of(scope))
            and is_loopback(scope["server"][0])
            # A proxy on this host passes on what comes from elsewhere.
            and not any(header(scope["headers"], each) for each in _OF_PROXIES)
        )
        return record if record.anonymous == "all" or is_from_here else None

    def _is_of_another_site(self, headers: Headers) -> bool:
        origin = header(headers, b"origin")
        if origin is None or origin.decode("latin-1") in self._origins or "*" in self._origins:
            return False
        return origin.partition(b"://")[2] != header(headers, b"host")


def _may_operate(record: KeyRecord, path: str) -> bool:
    return "*" in record.models or (path in METRICS_PATHS and record.metrics)


def _presented(headers: Headers) -> bytes | None:
    """The key that a request gives, if it does. Raises `ApiError` if it gives two."""
    own = header(headers, b"x-api-key")
    bearer = _credentials(headers, b"bearer")
    if own is not None and bearer is not None and own != bearer:
        message = "X-API-Key and Authorization give different keys; send one of them"
        raise ApiError("conflicting_api_keys", message)
    return own if own is not None else bearer


def _password(headers: Headers) -> bytes | None:
    """A browser, or Prometheus with `basic_auth`, gives the key as the password of any name.
    Browsers add it by themselves to what other sites' pages ask of us, so it opens nothing that
    generates."""
    encoded = _credentials(headers, b"basic")
    try:
        return base64.b64decode(encoded or b"", validate=True).partition(b":")[2] or None
    except ValueError:
        return None


def _credentials(headers: Headers, scheme: bytes) -> bytes | None:
    given, _, token = (header(headers, b"authorization") or b"").partition(b" ")
    return token.strip() or None if given.lower() == scheme else None


def address_of(scope: Scope) -> str:
    """Return the address of a request's client."""
    client = scope.get("client")
    return client[0] if client else "unknown"
