"""Keeps the logs of all processes small while they write."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from contract.logs.rotation import rotate

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 5.0


async def keep_small(directory: Path) -> None:
    """Look at all logs again and again, until cancelled."""
    while True:
        await asyncio.to_thread(_rotate_all, directory)
        await asyncio.sleep(_LOOK_EVERY_S)


def _rotate_all(directory: Path) -> None:
    """A full disk is logged, and no reason to stop."""
    for path in sorted(directory.glob("*.log")):
        try:
            rotate(path)
        except OSError as error:
            log.error("%s cannot be rotated: %s", path, error)
