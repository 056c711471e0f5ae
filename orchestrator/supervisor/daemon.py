"""The supervisor's process, `python -m orchestrator.supervisor.daemon`: one per state directory."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from contract.paths import make_run_dir
from contract.process.logs import configure_logging
from contract.process.process_table import boot_id, read_entry
from contract.process.tasks import cancel_and_wait
from orchestrator.supervisor.supervisor import Supervisor
from orchestrator.system.mutex import Mutex
from orchestrator.system.process import Identity
from orchestrator.system.service_manager import keep_alive, notify

log = logging.getLogger(__name__)


def main() -> int:
    """Supervise until everything is stopped. Leaves at once if another supervisor is there."""
    configure_logging("supervisor")
    mutex = Mutex(make_run_dir() / "supervisor.mutex")
    if not mutex.acquire():
        log.info("another supervisor is there")
        return 0
    try:
        asyncio.run(_supervise())
    finally:
        mutex.release()
    return 0


async def _supervise() -> None:
    entry = read_entry(os.getpid())
    identity = Identity(os.getpid(), entry.start_ticks if entry else 0, boot_id(), mark="")
    beating = asyncio.create_task(keep_alive())
    try:
        await Supervisor(identity).run(lambda: notify("READY=1"))
    finally:
        notify("STOPPING=1")
        await cancel_and_wait([beating])


if __name__ == "__main__":
    sys.exit(main())
