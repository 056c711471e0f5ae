"""The supervisor's process, `python -m orchestrator.supervisor.daemon`: one per state directory."""

from __future__ import annotations

import gc
import threading

from orchestrator.system.version import version

# Git takes a moment to tell the version: meanwhile the rest is imported. Objects of modules live
# on, and to look through them again and again takes a tenth of that.
threading.Thread(target=version, daemon=True).start()
gc.disable()

import asyncio
import logging
import os
import sys

from contract.config import ConfigError, LogsConfig, load_or_recall
from contract.paths import config_path, make_run_dir
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
    gc.freeze()
    gc.enable()
    logs = _logs_config()
    configure_logging("supervisor", as_json=logs.format == "json", to_journal=logs.journal)
    mutex = Mutex(make_run_dir() / "supervisor.mutex")
    if not mutex.acquire():
        log.info("another supervisor is there")
        return 0
    try:
        asyncio.run(_supervise(logs, mutex))
    finally:
        mutex.release()
    return 0


async def _supervise(logs: LogsConfig, mutex: Mutex) -> None:
    entry = read_entry(os.getpid())
    identity = Identity(os.getpid(), entry.start_ticks if entry else 0, boot_id(), mark="")
    beating = asyncio.create_task(keep_alive())
    try:
        await Supervisor(identity, logs, mutex).run(lambda: notify("READY=1"))
    finally:
        notify("STOPPING=1")
        await cancel_and_wait([beating])


def _logs_config() -> LogsConfig:
    """Return the section of logs. A supervisor is needed also while the file cannot be used."""
    try:
        return load_or_recall(config_path()).config.logs
    except ConfigError:
        return LogsConfig()


if __name__ == "__main__":
    sys.exit(main())
