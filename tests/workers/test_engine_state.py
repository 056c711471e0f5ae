"""Whether an engine's process was killed, as the worker tells its supervisor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

from contract.process import collector
from workers.engine_state import was_child_killed


def test_a_child_that_was_killed_is_told_from_one_that_crashed() -> None:
    spawning = multiprocessing.get_context("spawn")
    for number, is_kill in (
        (signal.SIGSEGV, False),
        (signal.SIGTERM, False),
        (signal.SIGKILL, True),
    ):
        child = spawning.Process(target=time.sleep, args=(60,))
        child.start()
        collector.settle()
        assert not was_child_killed()
        os.kill(child.pid or 0, number)
        child.join()
        assert was_child_killed() is is_kill
        child.close()
