"""Several sender processes that do one load together."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import msgspec

from contract.paths import ROOT
from orchestrator.benchmark.sender_task import SenderTask
from orchestrator.benchmark.tally import Tally

#: One process is asked to keep so many streams open, if there are cores enough.
_STREAMS_EACH: Final = 128
_LOOK_EVERY_S: Final = 0.2
#: A process may take so much longer than its time, to write its counts.
_GRACE_S: Final = 30.0
#: A process that is busier than that, as a share of one core, may be what limits the load.
BUSY: Final = 0.7
Told = Callable[[float], object]


def usual_processes(streams: int) -> int:
    """Return how many sender processes so many streams begin with."""
    return max(1, min(most_processes() // 2, math.ceil(streams / _STREAMS_EACH)))


def most_processes() -> int:
    """Return how many may run at once: as many as there are cores for this process."""
    return len(os.sched_getaffinity(0))


class RunInterruptedError(KeyboardInterrupt):
    """Ctrl-C, with what had been counted until then, by how many processes."""

    def __init__(self, tally: Tally, processes: int) -> None:
        super().__init__()
        self.tally = tally
        self.processes = processes


class LoadGenerator:
    """The processes of one run."""

    def __init__(self, assignment: SenderTask, processes: int) -> None:
        self._seconds = assignment.seconds
        self._shares = [each for each in _shares(assignment, processes) if _has_work(each)]
        self._senders: list[subprocess.Popen[bytes]] = []

    @property
    def processes(self) -> int:
        return len(self._shares)

    def run(self, told: Told) -> Tally:
        """Start them, let them begin at the same time, and add up what they count. `told` has the
        seconds since then. Ctrl-C ends the run early. Raises `RunInterruptedError`, and
        `RuntimeError` for a sender that fails."""
        try:
            self._start()
            with ThreadPoolExecutor(self.processes) as pool:
                results = [pool.submit(_read_result, each) for each in self._senders]
                try:
                    self._wait(results, told)
                except KeyboardInterrupt:
                    self._stop()
                    raise RunInterruptedError(_sum(results), self.processes) from None
                return _sum(results)
        finally:
            for sender in self._senders:
                sender.kill()
                # Waits, and closes its pipes.
                with sender:
                    pass

    def _start(self) -> None:
        for share in self._shares:
            sender = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.benchmark.sender"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
                # Ctrl-C is for us: what was counted until then is to be told.
                process_group=0,
            )
            self._senders.append(sender)
            _write(sender, msgspec.json.encode(share))
        for sender in self._senders:
            assert sender.stdout is not None  # noqa: S101 - it is a pipe
            if not sender.stdout.readline():
                raise RuntimeError(f"a sender process ended with {sender.wait()}")
        for sender in self._senders:
            _write(sender, b"")

    def _wait(self, results: list[Future[Tally]], told: Told) -> None:
        began = time.monotonic()
        while wait(results, timeout=_LOOK_EVERY_S).not_done:
            told(time.monotonic() - began)
            if time.monotonic() - began > self._seconds + _GRACE_S:
                self._stop()
                raise RuntimeError("a sender process did not end in time")

    def _stop(self) -> None:
        for sender in self._senders:
            assert sender.stdin is not None  # noqa: S101 - it is a pipe
            sender.stdin.close()


def _write(sender: subprocess.Popen[bytes], line: bytes) -> None:
    assert sender.stdin is not None  # noqa: S101 - it is a pipe
    sender.stdin.write(line + b"\n")
    sender.stdin.flush()


def _read_result(sender: subprocess.Popen[bytes]) -> Tally:
    assert sender.stdout is not None  # noqa: S101 - it is a pipe
    written = sender.stdout.read()
    if not written:
        raise RuntimeError(f"a sender process ended with {sender.wait()}")
    return msgspec.json.decode(written, type=Tally)


def _sum(results: list[Future[Tally]]) -> Tally:
    first, *others = (each.result() for each in results)
    for other in others:
        first.merge(other)
    return first


def _shares(assignment: SenderTask, processes: int) -> list[SenderTask]:
    """Split streams, and arrivals, as evenly as they can be."""
    return [
        msgspec.structs.replace(
            assignment,
            streams=len(range(number, assignment.streams, processes)),
            arrivals=assignment.arrivals[number::processes],
        )
        for number in range(processes)
    ]


def _has_work(assignment: SenderTask) -> bool:
    return bool(assignment.streams or assignment.arrivals)
