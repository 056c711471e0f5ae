"""The name of ew's command on this host."""

from __future__ import annotations

import sys
from pathlib import Path


def as_called(text: str) -> str:
    """Return the text with `./ew` as people call it here. Only this needs something of ew's own,
    which lies beside the folder of the scripts and imports nothing else."""
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from contract.paths import as_called

    sys.path.pop()
    return as_called(text)
