"""Which ew this is."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Final

from contract.paths import ROOT
from contract.release import release

_CONFIGURATION: Final = "deploy/config.json"


@cache
def version() -> str:
    """Return `0.1.0`; of a clone, with its commit: `0.1.0 (1bf862d)`, or `(1bf862d, changed)`. A
    process keeps what it was when it first asked."""
    commit = _commit()
    return f"{release()} ({commit})" if commit else release()


def _commit() -> str:
    """Empty where this is no clone, or it cannot be told: without git, or where git does not
    trust the clone's owner."""
    # ROOT may lie inside another project's clone.
    if not (ROOT / ".git").exists():
        return ""
    try:
        commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
        # A configuration is no code of ew's.
        changes = _git("diff", "--quiet", "HEAD", "--", ".", f":(exclude){_CONFIGURATION}")
    except OSError:
        return ""
    return f"{commit}, changed" if commit and changes.returncode == 1 else commit


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)
