"""`python -m workers`: one worker, as the JSON in EW_WORKER says."""

from __future__ import annotations

import gc

# Objects of modules live on: to look through them again and again, by the usual threshold,
# takes a tenth of the start. An engine's library is large.
_THRESHOLD = gc.get_threshold()
gc.set_threshold(100_000)

import asyncio
import faulthandler
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

import uvloop

from contract.config import WorkerSpec
from contract.endings import CANNOT_SERVE, ENGINE_DIED, ENGINE_HUNG, ENGINE_KILLED, REASON
from contract.engines import declaration_of
from contract.process import collector
from contract.process.logs import configure_logging
from contract.process.subreaper import adopt_orphans
from workers.engine import CannotServe, Engine, SupportsSleep
from workers.engine_state import EngineDied, EngineHung, EngineKilled
from workers.lasting import lasting_reason
from workers.worker import Worker

log = logging.getLogger(__name__)
#: An engine that hangs may not end by itself, and may keep its worker from ending.
_LEAVES_WITHIN_S: Final = 10.0


def create_engine(spec: WorkerSpec) -> Engine:
    """Return the engine of a worker. Its library is imported only here, and only this one."""
    module, _, name = declaration_of(spec.engine).adapter.partition(":")
    create: Callable[[WorkerSpec], Engine] = getattr(importlib.import_module(module), name)
    return create(spec)


async def serve(spec: WorkerSpec) -> None:
    try:
        engine = create_engine(spec)
    except (OSError, TypeError, ValueError) as error:
        # Nothing has been looked at yet but the configuration.
        raise CannotServe(str(error)) from error
    worker = Worker(spec, engine)
    loop = asyncio.get_running_loop()
    # A busy loop cannot drain; while the engine loads, a signal simply ends the process.
    worker.on_ready = lambda: _settle(loop, worker)
    worker.on_hung = _leave_for_sure
    gc.collect()
    gc.set_threshold(*_THRESHOLD)
    try:
        await worker.run()
    except EngineDied as error:
        if worker.engine_was_killed and not isinstance(error, EngineHung):
            raise EngineKilled(str(error)) from error
        raise


def _settle(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Handle the signals of the supervisor, and let the garbage collector look seldom."""
    collector.settle()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_signal_handler(signal.SIGQUIT, worker.retire)
    if isinstance(worker.engine, SupportsSleep):
        loop.add_signal_handler(signal.SIGUSR1, worker.sleep)
        loop.add_signal_handler(signal.SIGUSR2, worker.wake)


def _leave_for_sure() -> None:
    """End this process soon, whatever becomes of the engine. The supervisor ends what is left."""
    faulthandler.dump_traceback()
    leaving = threading.Timer(_LEAVES_WITHIN_S, os._exit, [ENGINE_HUNG])
    leaving.daemon = True
    leaving.start()


def main() -> int:
    # A crash inside an engine's library leaves the stacks in the log; so does SIGABRT.
    faulthandler.enable()
    adopt_orphans()
    spec = WorkerSpec.handed_over(os.environ.pop("EW_WORKER"))
    configure_logging(spec.name, as_json=spec.logs.format == "json", to_journal=spec.logs.journal)
    try:
        uvloop.run(serve(spec))
    except EngineHung as error:
        log.error("%s", error)
        return ENGINE_HUNG
    except EngineKilled as error:
        log.error("a process of the engine was killed: %s", error)
        return ENGINE_KILLED
    except EngineDied as error:
        log.error("the engine died: %s", error)
        return ENGINE_DIED
    except Exception as error:
        reason = lasting_reason(error)
        if reason is None:
            raise
        log.info("the engine did not start", exc_info=error)
        log.error("%s%s", REASON, reason)
        return CANNOT_SERVE
    return 0


# Engines start child processes that import this module again.
if __name__ == "__main__":
    sys.exit(main())
