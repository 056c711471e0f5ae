"""The marks by which all that a child has started is found again, and the end of what carries
them."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable
from typing import Final

from contract.paths import run_dir
from contract.process.process_table import (
    Entry,
    read_entry,
    read_environment,
    read_table,
    tree,
)

#: In the environment of a child and of all its descendants: what finds them again.
MARK_VARIABLE: Final = "EW_RUN_ID"
#: The same for all children of one state directory.
ROOT_VARIABLE: Final = "EW_RUN_ROOT"


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


def signal_group(group: int, number: int) -> None:
    """Signal all processes of a group that there still are."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return
