"""Which ew this is."""

from __future__ import annotations

import subprocess
from importlib import metadata

from contract.paths import ROOT


def version() -> str:
    """`0.1.0`; of a clone, with its commit: `0.1.0 (1bf862d)`, or `(1bf862d, changed)`."""
    commit = _commit()
    return f"{_release()} ({commit})" if commit else _release()


def _release() -> str:
    project = ROOT / "pyproject.toml"
    if not project.exists():
        return metadata.version("ew")
    import tomllib

    release: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return release


def _commit() -> str:
    """Empty where this is no clone, or nobody can tell: without git, or where git does not
    trust the clone's owner."""
    # ROOT may lie inside another project's clone.
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=, changed"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
