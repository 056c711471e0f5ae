"""Messages to the service manager that started this process: sd_notify(3), in datagrams."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

#: Variables that a service manager sets for one process, which must not be handed on.
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def notify(state: str) -> None:
    """Send a state such as `READY=1`. Does nothing where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A leading `@` names an abstract socket.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1.0)
        try:
            sender.sendto(state.encode(), name)
        except OSError:
            # A service manager that is restarting itself misses one.
            return


async def keep_alive() -> None:
    """Say that this event loop turns, twice in the time within which the service manager wants to
    hear so (sd_watchdog_enabled(3)); return at once if it does not want to."""
    interval_s = watchdog_s()
    while interval_s:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s / 2)


def watchdog_s() -> float:
    """Within how many seconds this process has to give a sign of life; 0 for never."""
    for_pid = os.environ.get("WATCHDOG_PID", "")
    given_us = os.environ.get("WATCHDOG_USEC", "")
    if not given_us.isdigit() or for_pid not in ("", str(os.getpid())):
        return 0.0
    return int(given_us) / 1e6
