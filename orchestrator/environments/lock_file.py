"""Locks: requirement files that pin every package of an environment, with hashes."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)


class LockFile(NamedTuple):
    """The entries by normalised name, each a piece of the file: a pin, its marker, its hashes.
    A package that differs between platforms has several pins in one entry."""

    path: Path
    entries: dict[str, str]

    def without(self, names: Collection[str]) -> str:
        return "".join(text for name, text in self.entries.items() if name not in names)

    def only(self, names: Collection[str]) -> str:
        return "".join(self.entries.get(name, "") for name in names)


def read_lock(path: Path) -> LockFile:
    entries: dict[str, str] = {}
    text = path.read_text()
    starts = list(_NAME.finditer(text))
    ends = [found.start() for found in starts[1:]] + [len(text)]
    for found, end in zip(starts, ends, strict=True):
        name = normalised(found[1])
        entries[name] = entries.get(name, "") + text[found.start() : end]
    return LockFile(path, entries)


def normalised(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
