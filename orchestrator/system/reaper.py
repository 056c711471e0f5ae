"""Collects the exit codes of children, and of the orphans below them."""

from __future__ import annotations

import os
import signal

from contract.process.subreaper import adopt_orphans
from orchestrator.system.marks import signal_group


class Reaper:
    """Collects exit statuses. This process becomes the parent of every orphan below it, so
    that none escapes by a double fork."""

    def __init__(self) -> None:
        adopt_orphans()
        self._groups: set[int] = set()
        self._statuses: dict[int, int] = {}

    def expect(self, pid: int) -> None:
        """Keep the exit status of this child, the leader of its own group."""
        self._groups.add(pid)

    def collect(self) -> None:
        """Reap whatever has ended; the rest of a leader's group ends with it."""
        while (ended := self._peek()) is not None:
            if ended in self._groups:
                # The group's number is ours for as long as its leader is not reaped.
                signal_group(ended, signal.SIGKILL)
            _, status = os.waitpid(ended, 0)
            if ended in self._groups:
                self._groups.discard(ended)
                self._statuses[ended] = os.waitstatus_to_exitcode(status)

    def exit_code(self, pid: int) -> int | None:
        """Return how a child ended (negative: by that signal); None if it was not a child of
        ours."""
        self.collect()
        return self._statuses.pop(pid, None)

    def _peek(self) -> int | None:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return None if found is None else found.si_pid
