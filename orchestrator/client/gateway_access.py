"""Where the gateway of this host is, and the key that a person gives for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from contract.keys import find_anonymous, is_well_formed
from contract.messages import State
from contract.supervision.last_seen import is_supervised
from contract.supervision.status import GatewayStatus
from orchestrator.client.gateway_client import Gateway, KeyRefused
from orchestrator.config.key_file import KeyFile
from orchestrator.config.named_host import named_host
from orchestrator.errors import UserError
from orchestrator.protocol.status import read_status
from orchestrator.system.gateway_tls import tls_context

KEY_VARIABLE: Final = "EW_API_KEY"
_GIVE_ONE: Final = f"`export {KEY_VARIABLE}=$(./ew keys add NAME)` makes one and uses it"


def running_gateway() -> GatewayStatus:
    """Return the gateway of this host. Raises `UserError` if it does not run."""
    status = read_status()
    gateway = status.gateway
    is_there = gateway is not None and gateway.state in (State.READY, State.STARTING)
    if gateway is None or not is_there or not is_supervised(status):
        raise UserError("the gateway does not run", "`./ew start`")
    return gateway


def reach_gateway(api_key: str | None) -> Gateway:
    """Return the gateway of this host, to be asked with a key. Raises `UserError`."""
    found = running_gateway()
    return Gateway(found.url, api_key, tls_context(found.certificate))


def given_key() -> str | None:
    """Return the key in the environment, None if there is none."""
    return os.environ.get(KEY_VARIABLE) or None


@contextmanager
def owner_gateway() -> Iterator[Gateway]:
    """Yield the gateway, with the user's own key: jobs outlive a command and belong to a key, so
    the command cannot make one for itself. No key where none is needed.

    With `--host` it is that of another host. Raises `UserError` if there is no gateway or no key,
    and `KeyRefused` with its cause.
    """
    given = given_key()
    if url := named_host():
        # A cycle: that asks by the same client.
        from orchestrator.client.other_host import other_host

        yield other_host(url).gateway
    elif given is not None:
        with blaming_variable(given, _GIVE_ONE):
            yield reach_gateway(given)
    elif find_anonymous(KeyFile().all(), time.time()) is not None:
        yield reach_gateway(None)
    else:
        raise UserError(f"no API key: {KEY_VARIABLE} is not set", _GIVE_ONE)


@contextmanager
def blaming_variable(key: str, hint: str) -> Iterator[None]:
    """Blame the variable for a key that does not open."""
    if not is_well_formed(key):
        raise UserError(f"{KEY_VARIABLE} holds no key of ew: it is mistyped, or cut off", hint)
    try:
        yield
    except KeyRefused:
        message = (
            f"the gateway refuses the key in {KEY_VARIABLE}: it is unknown, expired or revoked"
        )
        raise KeyRefused(message, hint) from None
