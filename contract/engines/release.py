"""One version of an engine's library: what it needs, and what to install for it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from contract.paths import ROOT

ENGINES_DIR: Final = ROOT / "deploy" / "engines"
#: The packages that a worker needs in every engine's environment.
WORKER_REQUIREMENTS: Final = ENGINES_DIR / "worker.in"


class Advice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something to know before using a release, and what to do about it."""

    warning: str
    advice: str


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the `versions` of a declaration; its key there is its `version`."""

    #: The Pythons it runs on, the preferred one first.
    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    requirements: tuple[str, ...]
    #: Requirements that replace other packages' when a lock is made.
    overrides: tuple[str, ...] = ()
    #: The lock's file name. Without a lock only `requirements` are pinned, and no hash is checked.
    lock: str = ""
    why_no_lock: str = ""
    #: Packages that come from an index of their own.
    indexes: dict[str, tuple[str, ...]] = {}
    #: SHA-256 of the wheels of such a package, by the tags of their file names.
    hashes: dict[str, dict[str, str]] = {}
    #: Packages of which a lock may have a pre-release, each with the reason.
    prereleases: dict[str, str] = {}
    #: Checks of `orchestrator.environments.preflight` beyond those that every engine needs.
    needs: tuple[str, ...] = ()
    #: The oldest CUDA version that the driver must support.
    cuda: str = ""
    glibc: str = ""
    disk_gib: int = 0
    warnings: tuple[Advice, ...] = ()
    version: str = ""

    @property
    def lock_path(self) -> Path:
        """Where the lock is; only for a release that has one."""
        return ENGINES_DIR / self.lock

    @property
    def digest(self) -> str:
        """Of all that will be installed."""
        if self.lock:
            return hashlib.sha256(self.lock_path.read_bytes()).hexdigest()
        wanted = "\n".join(self.requirements).encode() + WORKER_REQUIREMENTS.read_bytes()
        return hashlib.sha256(wanted).hexdigest()

    @property
    def from_own_index(self) -> set[str]:
        """The packages that come from an index of their own."""
        return {name for names in self.indexes.values() for name in names}
