"""The `uv pip install` calls that fill an engine's environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.engines import WORKER_REQUIREMENTS, Release
from orchestrator.packages.installer import is_reachable
from orchestrator.packages.lock_file import read_lock


@dataclass(frozen=True)
class Installation:
    """One call: what is installed, the arguments before `-r FILE`, and the file's content.
    `index` is asked besides the usual one."""

    title: str
    arguments: list[str]
    requirements: str
    index: str | None = None


def installations(release: Release, wheelhouse: Path | None) -> Iterator[Installation]:
    """In order. Packages with an index of their own come alone, so that nothing else can come
    from there. An index that does not answer is left out: its packages may lie elsewhere."""
    offline = ["--no-index", "--find-links", str(wheelhouse)] if wheelhouse else []
    for index, names in release.indexes.items():
        reachable = index if not wheelhouse and is_reachable(index) else None
        yield _from_index(release, names, offline, reachable)
    yield _rest(release, offline)


def _from_index(
    release: Release, names: tuple[str, ...], offline: list[str], index: str | None
) -> Installation:
    title = " and ".join(names)
    if release.lock:
        text = read_lock(release.lock_path).only(names)
        return Installation(title, [*_EXACT, *offline], text, index)
    lines = [line for line in release.requirements if line.startswith(names)]
    return Installation(title, offline, _lines(lines), index)


def _rest(release: Release, offline: list[str]) -> Installation:
    if release.lock:
        lock = read_lock(release.lock_path)
        text = lock.without(release.from_own_index)
        return Installation(f"the packages of {release.lock}", [*_EXACT, *offline], text)
    wanted = ", ".join(release.requirements[:1])
    text = _lines(release.requirements) + WORKER_REQUIREMENTS.read_text()
    return Installation(f"{wanted} and what it needs (not locked)", offline, text)


def _lines(requirements: list[str] | tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in requirements)


#: A lock is complete: nothing has to be resolved, and nothing may come in that is not in it.
_EXACT = ["--no-deps", "--require-hashes"]
