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
from contract.logs import configure_logging
from workers.engine import Engine, Sleeper
from workers.outbox import EngineDied
from workers.worker import Worker

log = logging.getLogger(__name__)
#: sysexits.h: EX_SOFTWARE. The engine died; the supervisor starts another worker.
EXIT_ENGINE_DIED = 70


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
            raise SystemExit(f"engine `{spec.engine}` has no adapter")


async def serve(spec: WorkerSpec) -> None:
    worker = Worker(spec, create_engine(spec))
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
        return EXIT_ENGINE_DIED
    return 0


# Engines start child processes that import this module again.
if __name__ == "__main__":
    sys.exit(main())
