"""Valkey's append-only file, copied while Valkey writes it.

It is a manifest, and the files that this names: a base, and what came after it. They only grow,
until Valkey writes them anew: then others take their place in the manifest. So those that a
manifest names, all held open before it changes, are what Valkey would find after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from orchestrator.errors import UserError

MANIFEST: Final = "appendonly.aof.manifest"
_ATTEMPTS: Final = 20


class AppendOnly(NamedTuple):
    """A manifest, and its files by name, open for reading."""

    manifest: bytes
    files: dict[str, BinaryIO]


@contextmanager
def held_open(directory: Path) -> Iterator[AppendOnly | None]:
    """Yield the append-only file in a directory; None if there is none. Raises `UserError`,
    `OSError`."""
    with ExitStack() as stack:
        for _ in range(_ATTEMPTS):
            attempt = stack.enter_context(ExitStack())
            try:
                manifest = (directory / MANIFEST).read_bytes()
            except FileNotFoundError:
                yield None
                return
            found = _open(attempt, directory, manifest)
            if found is not None and (directory / MANIFEST).read_bytes() == manifest:
                yield AppendOnly(manifest, found)
                return
            attempt.close()
        raise UserError(f"{directory} changes too fast to be copied", "try again")


def _open(stack: ExitStack, directory: Path, manifest: bytes) -> dict[str, BinaryIO] | None:
    try:
        return {
            name: stack.enter_context((directory / name).open("rb")) for name in _names(manifest)
        }
    except FileNotFoundError:
        return None


def _names(manifest: bytes) -> list[str]:
    """Return the files that a manifest names, in lines as `file NAME seq 1 type b`, without those
    that are to be deleted (`type h`)."""
    lines = [line.split() for line in manifest.decode().splitlines() if line.startswith("file ")]
    return [words[1] for words in lines if words[-1] != "h" and "/" not in words[1]]
