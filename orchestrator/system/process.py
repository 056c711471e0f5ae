"""One child process and everything that it started: spawned or adopted, signalled, swept up."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from contract.logs.rotation import LARGEST_BYTES, open_privately, rotate
from contract.paths import make_private, run_dir
from contract.process.process_table import (
    Entry,
    boot_id,
    read_entry,
    read_environment,
    read_table,
    tree,
)
from orchestrator.system.marks import MARK_VARIABLE, ROOT_VARIABLE, signal_exactly, signal_group
from orchestrator.system.reaper import Reaper


class Identity(msgspec.Struct, frozen=True):
    """Which process is meant. A pid alone can be reused: the start time makes it ours."""

    pid: int
    start_ticks: int
    boot_id: str
    mark: str

    def is_running(self) -> bool:
        """Return whether exactly this process exists and has not ended."""
        entry = read_entry(self.pid)
        return self.boot_id == boot_id() and entry is not None and self.matches(entry)

    def matches(self, entry: Entry) -> bool:
        return entry.start_ticks == self.start_ticks and not entry.is_zombie


class Command(msgspec.Struct, frozen=True):
    """How a child is started."""

    argv: list[str]
    environment: dict[str, str]
    cwd: Path
    #: The umask of the process; -1: as ours.
    umask: int = -1
    #: The file that its standard output is appended to; None: to the log, as what it complains of.
    output: Path | None = None


class Process:
    """A process that runs, or has just ended and is not swept up yet."""

    def __init__(self, identity: Identity, pidfd: int, started: float) -> None:
        self.identity = identity
        #: On the monotonic clock.
        self.started = started
        self._pidfd = pidfd
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._family: dict[int, int] = {}

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def family(self) -> set[int]:
        """The pids that were seen to belong to it."""
        return set(self._family)

    def watch(self, on_exit: Callable[[], None]) -> None:
        """Call `on_exit` once, in the running loop, when the process has ended."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._pidfd)
            self._watcher = None
            on_exit()

        loop.add_reader(self._pidfd, ended)
        self._watcher = loop

    def terminate(self) -> None:
        """Ask the process itself to end. Its children are its own to end: an engine's process
        that hears the signal too would break off the answers that the worker still drains."""
        self._tell(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ask a command to end, as Ctrl-C does."""
        self._tell(signal.SIGINT)

    def replace(self) -> None:
        """Ask the gateway to replace its processes."""
        self._signal(signal.SIGHUP)

    def hurry(self) -> None:
        """Ask the gateway to end what is open with an error, at once, and then itself."""
        self._tell(signal.SIGQUIT)

    def retire(self) -> None:
        """Ask a worker to end when its answers have; `terminate` hurries it."""
        self._tell(signal.SIGQUIT)

    def sleep(self) -> None:
        """Ask a worker to hand its GPU memory back."""
        self._signal(signal.SIGUSR1)

    def wake(self) -> None:
        """Ask a worker that sleeps to take its GPU memory again."""
        self._signal(signal.SIGUSR2)

    def kill(self) -> None:
        """End the process and everything that it started, now."""
        self._signal(signal.SIGKILL)
        self.sweep()

    def remember(self, table: dict[int, Entry]) -> list[Entry]:
        """Note and return the processes that belong to this one: some children overwrite their
        mark."""
        family = tree(table, [self.pid])
        self._family.update((entry.pid, entry.start_ticks) for entry in family)
        return family

    def sweep(self) -> list[int]:
        """Kill what this process left behind. Returns the pids that still have to vanish."""
        table = read_table()
        roots = [entry.pid for entry in table.values() if self._is_ours(entry)]
        left = [
            entry
            for entry in tree(table, roots)
            if not entry.is_zombie and entry.pid not in (self.pid, os.getpid())
        ]
        for entry in left:
            signal_exactly(entry, signal.SIGKILL)
        return [entry.pid for entry in left]

    def close(self) -> None:
        """Let go of the process without touching it."""
        if self._watcher is not None:
            self._watcher.remove_reader(self._pidfd)
            self._watcher = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _is_ours(self, entry: Entry) -> bool:
        mark = f"{MARK_VARIABLE}={self.identity.mark}"
        is_remembered = self._family.get(entry.pid) == entry.start_ticks
        return is_remembered or mark in read_environment(entry.pid)

    def _tell(self, number: int) -> None:
        """Signal the process, and let it hear: one that was stopped goes on, with its group."""
        self._signal(number)
        if self.identity.is_running():
            # Its leader is there, and so the group's number is ours.
            signal_group(self.pid, signal.SIGCONT)

    def _signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return


def spawn(command: Command, log_path: Path, reaper: Reaper, mark: str = "") -> Process:
    """Start a child that carries the marks of this run; with the `mark` of one that has died, what
    that one left running is its own. Raises `OSError`."""
    mark = mark or secrets.token_hex(12)
    marks = {MARK_VARIABLE: mark, ROOT_VARIABLE: str(run_dir())}
    marked = msgspec.structs.replace(command, environment=command.environment | marks)
    pid = detach(marked, log_path)
    reaper.expect(pid)
    pidfd = os.pidfd_open(pid)
    entry = read_entry(pid)
    identity = Identity(pid, entry.start_ticks if entry else 0, boot_id(), mark)
    return Process(identity, pidfd, time.monotonic())


def detach(command: Command, log_path: Path) -> int:
    """Start a process in a session of its own, with its output appended to a log: a file, so
    that it outlives this process. Returns the pid; its exit status is the caller's to collect.

    Raises `OSError`.
    """
    with open_privately(log_path) as log, open_privately(command.output or log_path) as output:
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
            umask=command.umask,
        )
    # `Popen` itself must neither wait for it nor warn that nothing does.
    child.returncode = 0
    return child.pid


def adopt(identity: Identity, started_at: float) -> Process | None:
    """Watch over a process that another supervisor started, at this monotonic second; None unless
    exactly it still runs."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError:
        return None
    # Checked after the descriptor is open: from then on the pid cannot change hands.
    if not identity.is_running():
        os.close(pidfd)
        return None
    return Process(identity, pidfd, started_at)


def sweep_mark(identity: Identity) -> None:
    """Kill what is left of a process that ended while no supervisor ran."""
    if identity.boot_id == boot_id():
        Process(identity, -1, 0.0).sweep()


def open_log(path: Path, beyond_bytes: int = LARGEST_BYTES) -> int:
    """Make room in a log before a start. Returns the size from which the new lines begin."""
    make_private(path.parent)
    rotate(path, beyond_bytes=beyond_bytes)
    return path.stat().st_size if path.exists() else 0
