"""Locks: requirement files that pin every package of an environment, with hashes.

Below the hashes of a pin, comments say whose they are: `# 5d41402a cp312-cp312-linux_x86_64` is the
start of a hash and the tags of that wheel, or `sdist`. So a lock alone tells for which Pythons
and machines it has files.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_FILE = re.compile(r"^ +# ([0-9a-f]{8}) (\S+)$", re.MULTILINE)


class PinnedPackage(NamedTuple):
    """One version of a package, where `marker` holds. `files` are the hashes, each with the tags
    of its wheel; empty where the lock does not say."""

    name: str
    version: str
    marker: str
    files: dict[str, str]

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


class LockFile(NamedTuple):
    """The entries by normalised name, each a piece of the file: a pin, its marker, its hashes.
    A package that differs between platforms has several pins in one entry."""

    path: Path
    entries: dict[str, str]

    def without(self, names: Collection[str]) -> str:
        return "".join(text for name, text in self.entries.items() if name not in names)

    def pins(self) -> list[PinnedPackage]:
        return [_pin(text) for entry in self.entries.values() for text in _split(entry)]

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


def _split(entry: str) -> list[str]:
    starts = [found.start() for found in _NAME.finditer(entry)]
    return [entry[start:end] for start, end in zip(starts, [*starts[1:], len(entry)], strict=True)]


def _pin(text: str) -> PinnedPackage:
    pin, _, marker = text.splitlines()[0].removesuffix("\\").partition(" ; ")
    name, _, version = pin.strip().partition("==")
    tags = dict(_FILE.findall(text))
    files = {digest: tags.get(digest[:8], "") for digest in _HASH.findall(text)}
    return PinnedPackage(name, version, marker.strip(), files)


def normalised(name: str) -> str:
    """Return the one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
