"""When a change of a key counts, while ew runs: key by key."""

from __future__ import annotations

from enum import Enum
from typing import Final

from contract.config import GATEWAY_FIELDS


class Effect(Enum):
    """When a change in the file counts."""

    #: Within a second or two, by itself.
    AT_ONCE = "at once"
    #: With `./ew reload`: the gateway's processes are replaced, and open answers go on.
    RELOAD = "reload"
    #: When the model is loaded the next time; `./ew restart MODEL` does that without losing any.
    LOAD = "next load"
    #: With `./ew stop` and `./ew start`.
    ANEW = "stop and start"


#: Of the gateway's: the sockets outlive its processes.
SOCKETS: Final = frozenset({"host", "port", "admin_host", "admin_port"})
_SECTIONS: Final = {
    "models": Effect.LOAD,
    "limits": Effect.AT_ONCE,
    "gateway": Effect.RELOAD,
    "keys": Effect.RELOAD,
    "jobs": Effect.RELOAD,
    "files": Effect.RELOAD,
    "logs": Effect.RELOAD,
    "tracing": Effect.RELOAD,
    "hub": Effect.LOAD,
    "usage": Effect.LOAD,
    "dead_letters": Effect.LOAD,
    "redis": Effect.ANEW,
}


def effect_of(section: str, key: str) -> Effect:
    """Return when a change of this key counts; all models are one section."""
    if section == "gateway" and key in SOCKETS:
        return Effect.ANEW
    if section == "models" and key == "hosts":
        return Effect.ANEW
    if section == "models" and key in GATEWAY_FIELDS:
        return Effect.AT_ONCE
    return _SECTIONS[section]
