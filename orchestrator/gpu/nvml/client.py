"""Questions to NVML with a bound on the time of their answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

import msgspec

from orchestrator.gpu.nvml.reader import NvmlReader
from orchestrator.gpu.nvml.snapshot import Snapshot

#: Drivers that load at the first question have taken half a minute; longer, and none is there.
FIRST_ANSWER_S: Final = 60.0


class Nvml:
    """Asks in a thread of its own: a card in trouble can hang the driver for minutes, and nothing
    else shall hang with it."""

    def __init__(self) -> None:
        self._reader = NvmlReader()
        self._pending: Future[Snapshot] | None = None
        self._last: Snapshot | None = None
        self._began = time.monotonic()

    def snapshot(self, timeout_s: float = 5.0) -> Snapshot:
        """Return the GPUs as of now. If NVML does not answer in time: as they were last seen,
        and the problem; the next call then waits for the same answer. Not for several threads."""
        if self._pending is None:
            self._pending = _in_thread(self._reader.read)
        try:
            self._last = self._pending.result(timeout_s)
        except TimeoutError:
            return self._without_answer()
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return self._last

    def _without_answer(self) -> Snapshot:
        if self._last is not None:
            age_s = time.monotonic() - self._last.taken_at
            problem = f"NVML does not answer: these figures are {age_s:.0f} s old"
            return msgspec.structs.replace(self._last, problem=problem)
        waited_s = time.monotonic() - self._began
        problem = f"NVML has not answered for {waited_s:.0f} s"
        return Snapshot(time.monotonic(), problem=problem, is_pending=waited_s < FIRST_ANSWER_S)


def _in_thread(read: Callable[[], Snapshot]) -> Future[Snapshot]:
    """Run it in a daemon thread: nothing waits for it, not even the exit of the process."""
    future: Future[Snapshot] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="nvml", daemon=True).start()
    return future
