"""`python -m workers`: one worker, as the JSON in EW_WORKER says."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys

import uvloop

from contract.config import WorkerSpec
from contract.endings import CANNOT_SERVE, ENGINE_DIED, REASON
from contract.logs import configure_logging
from workers.engine import CannotServe, Engine, Sleeper
from workers.lasting import lasting_reason
from workers.outbox import EngineDied
from workers.worker import Worker

log = logging.getLogger(__name__)


def create_engine(spec: WorkerSpec) -> Engine:
    """The engine of a worker. Its library is imported only here, and only this one."""
    match spec.engine:
        case "cuda-vllm" | "cpu-vllm":
            from workers.engines.vllm import VllmEngine

            return VllmEngine(spec)
        case "cuda-trt":
            from workers.engines.trtllm.engine import TrtllmEngine

            return TrtllmEngine(spec)
        case "llama-cpp":
            from workers.engines.llama_cpp import llama_cpp_engine

            return llama_cpp_engine(spec)
        case "openai":
            from workers.engines.openai import OpenAiEngine

            return OpenAiEngine(spec)
        case "mock":
            from workers.engines.mock import MockEngine

            return MockEngine(spec)
        case _:
            raise CannotServe(f"the engine `{spec.engine}` has no adapter")


async def serve(spec: WorkerSpec) -> None:
    try:
        engine = create_engine(spec)
    except (OSError, TypeError, ValueError) as error:
        # Nothing has been looked at yet but the configuration.
        raise CannotServe(str(error)) from error
    worker = Worker(spec, engine)
    loop = asyncio.get_running_loop()
    # A busy loop cannot drain; while the engine loads, a signal simply ends the process.
    worker.on_ready = lambda: _listen(loop, worker)
    gc.collect()
    await worker.run()


def _listen(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """What the supervisor says, it says by signals."""
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_signal_handler(signal.SIGQUIT, worker.retire)
    if isinstance(worker.engine, Sleeper):
        loop.add_signal_handler(signal.SIGUSR1, worker.sleep)
        loop.add_signal_handler(signal.SIGUSR2, worker.wake)


def main() -> int:
    # A crash inside an engine's library leaves the stacks in the log; so does SIGABRT.
    faulthandler.enable()
    spec = WorkerSpec.model_validate_json(os.environ.pop("EW_WORKER"))
    configure_logging(spec.name)
    try:
        uvloop.run(serve(spec))
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
