"""A change of any section that the gateway is told is noticed, with what applies it."""

from __future__ import annotations

from typing import Any

import pytest

from contract.config import Config
from orchestrator.config.changes import changes
from orchestrator.config.selection import gateway_spec

#: A key of each section of the gateway, and its new value.
CHANGED: dict[str, tuple[str, Any]] = {
    "gateway": ("max_connections", 100),
    "keys": ("source", "front-1"),
    "limits": ("max_waiting", 5),
    "jobs": ("keep_s", 100),
    "files": ("keep_s", 100),
    "hub": ("token_env", "T"),
    "logs": ("max_bytes", 2_000_000),
    "tracing": ("endpoint", "http://127.0.0.1:4318"),
}
#: Workers, or Valkey, are told these.
_OF_OTHERS = {"schema_", "models", "redis", "usage", "dead_letters"}


def test_all_sections_are_below() -> None:
    assert CHANGED.keys() | _OF_OTHERS == Config.model_fields.keys()


@pytest.mark.parametrize("section", CHANGED)
def test_a_change_is_noticed(section: str) -> None:
    key, value = CHANGED[section]
    before = gateway_spec(Config())
    (change,) = changes([before], None, Config(**{section: {key: value}}))
    assert change.key == f"{section}.{key}"
    assert changes([gateway_spec(Config())], None, Config()) == []
