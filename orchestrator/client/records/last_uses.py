"""When keys were used last, as far as the Redis of this installation says."""

from __future__ import annotations

from contract.bus.records.last_uses import read_last_uses
from orchestrator.client.records.redis_access import ask_redis
from orchestrator.config.selection import read_config
from orchestrator.errors import UserError


def known_last_uses() -> dict[str, float] | None:
    """Return by key id when its last request ended; None while Redis cannot be asked, as the keys
    are worth showing all the same."""
    try:
        return ask_redis(read_config(), read_last_uses)
    except UserError:
        return None
