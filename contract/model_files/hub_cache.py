"""Where Hugging Face's libraries keep repositories on this host, and what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract.paths import project_dir

MAIN: Final = "main"
PARTIAL: Final = ".incomplete"


def cache_dir() -> Path:
    """Return the directory of all repositories, by the variables that huggingface_hub itself
    reads."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{base}/huggingface"
    older = os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE") or older)).expanduser()


def repo_dir(repo: str, cache: Path | None = None) -> Path:
    """Return the directory of one repository, there or not; in another `cache` than the usual
    one."""
    return (cache or cache_dir()) / f"models--{repo.replace('/', '--')}"


def snapshot_dir(repo: str, commit: str, cache: Path | None = None) -> Path:
    return repo_dir(repo, cache) / "snapshots" / commit


def commit_of(repo: str, revision: str = MAIN, cache: Path | None = None) -> str | None:
    """Return the commit that a branch or tag was when it was fetched; None if it never was."""
    try:
        return (repo_dir(repo, cache) / "refs" / revision).read_text().strip()
    except OSError:
        return None


def snapshot_of(repo: str, revision: str = MAIN, cache: Path | None = None) -> Path | None:
    """Return the files of a revision (a branch, a tag or a commit), as far as they are here."""
    path = snapshot_dir(repo, commit_of(repo, revision, cache) or revision, cache)
    return path if path.is_dir() else None


def file_of(model_path: str) -> Path | None:
    """Return a file that is a model: a local one (relative to the project), or `ORG/REPO/FILE`
    that was fetched; None if it is not here."""
    local = project_dir() / Path(model_path).expanduser()
    if local.is_file():
        return local
    owner, _, rest = model_path.partition("/")
    name, _, path = rest.partition("/")
    snapshot = snapshot_of(f"{owner}/{name}") if owner and name and path else None
    return snapshot / path if snapshot and (snapshot / path).is_file() else None


def revisions_of(repo: str) -> dict[str, str]:
    """Return the commit of each branch and tag that is here."""
    refs = repo_dir(repo) / "refs"
    return {
        str(path.relative_to(refs)): path.read_text().strip()
        for path in sorted(refs.rglob("*"))
        if path.is_file()
    }


def files_of(snapshot: Path) -> Iterator[tuple[str, int]]:
    """Yield the files of a snapshot that are whole, each with its size in bytes."""
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(snapshot)), path.stat().st_size


def repositories() -> Iterator[str]:
    """Yield the ids of all models that are here, whole or not."""
    for path in sorted(cache_dir().glob("models--*")):
        yield path.name.removeprefix("models--").replace("--", "/")


def size_of(repo: str) -> int:
    """Return the bytes that a repository takes on the disk, in all of its revisions."""
    blobs = repo_dir(repo) / "blobs"
    return sum(path.stat().st_size for path in blobs.glob("*") if path.is_file())
