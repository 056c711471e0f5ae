"""A gateway process in which something is broken."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

log = logging.getLogger(__name__)


def leave_if_broken(task: asyncio.Task[None]) -> None:
    """Half a gateway is worse than none: leave, and be started anew as a whole."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("leaving: a defect has ended %s", task.get_coro(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
