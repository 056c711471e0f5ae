"""Why Redis answers and does nothing else: its disk or its memory is full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from contract.limits import MEMORY_FOR_JOBS

_MORE: Final = (
    "nothing is taken in until answers have ended; give it more "
    "(`redis.max_memory_bytes`, or `maxmemory` there)"
)
_MEMORY: Final = f"its memory is full: {_MORE}"
_NEARLY: Final = f"its memory is nearly full: {_MORE}"
#: Not the manifest, as the server's own log has it: Valkey 9.1's tool takes its base file for
#: damaged (findings/valkey-check-aof-own-base-file.sh).
DAMAGED: Final = (
    "the queue's data is damaged: move {valkey} away (waiting jobs are lost), or cut off what "
    "comes after the damage, in bash: `(exec -a valkey-check-aof {server} --fix "
    "{valkey}/appendonlydir/*.incr.aof)`"
)
_DISK: Final = "its disk is full: nothing is taken in; free some space where its data is (`df -h`)"
_FILE: Final = "it cannot write its data: nothing is taken in; its log says why"
KEEP_ALL: Final = "`CONFIG SET maxmemory-policy noeviction`, or a server of its own for ew"
#: By then it refuses what may need a little more.
_FULL: Final = 0.98


class Trouble(NamedTuple):
    """A fault, and what to do about it."""

    seen: str
    fix: str


def in_words(error: str) -> str:
    """Return an error of Redis as a person reads it: the cause and the cure, where they are
    known."""
    if "used memory > 'maxmemory'" in error:
        return _MEMORY
    if error.startswith("MISCONF") and "No space left" in error:
        return _DISK
    return _FILE if error.startswith("MISCONF") else error


def troubles(info: Mapping[str, Any]) -> Iterator[Trouble]:
    """Yield what is wrong with a server, by its INFO."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        fix = f"it drops keys when its memory is full: {KEEP_ALL}"
        yield Trouble(f"maxmemory-policy {policy}", fix)
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        yield Trouble("the last write of its file failed", f"{_DISK}, or see its log")
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    if most and used >= MEMORY_FOR_JOBS * most:
        fix = _MEMORY if used >= _FULL * most else _NEARLY
        yield Trouble(f"uses {used / 2**20:.0f} of {most / 2**20:.0f} MiB", fix)
