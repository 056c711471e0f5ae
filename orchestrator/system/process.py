"""One child process and everything that it started: spawned or adopted, signalled, swept up."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from contract.paths import make_private, run_dir
from contract.process.subreaper import adopt_orphans
from orchestrator.logs.rotation import open_privately, rotate
from orchestrator.system.process_table import (
    Entry,
    boot_id,
    read_entry,
    read_environment,
    read_table,
    tree,
)

#: In the environment of a child and of all its descendants: what finds them again.
MARK_VARIABLE: Final = "EW_RUN_ID"
#: The same for all children of one state directory.
ROOT_VARIABLE: Final = "EW_RUN_ROOT"


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
    #: What its files shall not let others do; -1: as ours.
    umask: int = -1


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
                _signal_group(ended, signal.SIGKILL)
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
            _signal_group(self.pid, signal.SIGCONT)

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
    with open_privately(log_path) as log:
        child = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
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


def marked(mark: str, leader: int = 0) -> list[Entry]:
    """Return the running processes that carry a mark, without the `leader` (a pid) and all below
    it."""
    table = read_table()
    own = {entry.pid for entry in tree(table, [leader])} if leader else set()
    variable = f"{MARK_VARIABLE}={mark}"
    return [
        entry
        for entry in table.values()
        if entry.pid not in own and not entry.is_zombie and variable in read_environment(entry.pid)
    ]


def kill_orphans(known: Iterable[str]) -> list[int]:
    """Kill the children of this state directory that carry none of the known marks. Returns their
    pids."""
    root = f"{ROOT_VARIABLE}={run_dir()}"
    marks = {f"{MARK_VARIABLE}={mark}" for mark in known}
    orphans = []
    for entry in read_table().values():
        environment = read_environment(entry.pid)
        if root in environment and not marks & environment and entry.pid != os.getpid():
            signal_exactly(entry, signal.SIGKILL)
            orphans.append(entry.pid)
    return orphans


def kill_descendants() -> list[int]:
    """Kill all that descends from this process, whatever it made of its environment: as every
    orphan becomes a child of ours, none of them escapes. Returns their pids."""
    family = tree(read_table(), [os.getpid()])
    left = [entry for entry in family if entry.pid != os.getpid() and not entry.is_zombie]
    for entry in left:
        signal_exactly(entry, signal.SIGKILL)
    return [entry.pid for entry in left]


def kill_adopted(own: Collection[int]) -> list[int]:
    """Kill the children that this process did not start, but for those with a mark, and `own`: as
    workers keep the orphans below them, these were left by one that is dead. Returns their pids."""
    table = read_table()
    here = table[os.getpid()]
    root = f"{ROOT_VARIABLE}={run_dir()}"
    orphans = [
        entry.pid
        for entry in table.values()
        if entry.parent == here.pid
        and entry.pid not in own
        and entry.session != here.session
        and root not in read_environment(entry.pid)
    ]
    left = [entry for entry in tree(table, orphans) if not entry.is_zombie]
    for entry in left:
        signal_exactly(entry, signal.SIGKILL)
    return [entry.pid for entry in left]


def open_log(path: Path) -> int:
    """Make room in a log before a start. Returns the size from which the new lines begin."""
    make_private(path.parent)
    rotate(path)
    return path.stat().st_size if path.exists() else 0


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def signal_exactly(entry: Entry, number: int) -> None:
    """Signal this process, and never another one that has got its pid meanwhile."""
    try:
        pidfd = os.pidfd_open(entry.pid)
    except OSError:
        return
    try:
        now = read_entry(entry.pid)
        if now is not None and now.start_ticks == entry.start_ticks:
            signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(pidfd)
