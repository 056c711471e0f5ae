"""Keeps the logs of all processes small while they write."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from contract.config import LogsConfig
from contract.logs.rotation import rotate

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 5.0


class LogKeeper:
    """Looks at all logs of a directory again and again."""

    def __init__(self, directory: Path, settings: LogsConfig) -> None:
        self._directory = directory
        self.settings = settings

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.to_thread(self._rotate_all)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _rotate_all(self) -> None:
        """A full disk is logged, and no reason to stop."""
        for path in sorted(self._directory.glob("*.log")):
            try:
                rotate(path, beyond_bytes=self.settings.max_bytes)
            except OSError as error:
                log.error("%s cannot be rotated: %s", path, error)
