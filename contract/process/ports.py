"""Where servers listen: a TCP port that is free, and from where a host can be reached."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from typing import Final

#: Below those that Linux gives to outgoing connections: one of these could be gone again before
#: it is listened on.
_CANDIDATES: Final = range(20_000, 32_768)
#: The addresses that mean all.
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that no process listens on, or is about to. Raises `OSError` if the host is not
    one of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(_CANDIDATES, 100):
        with contextlib.suppress(OSError):
            return _bindable(family, host, port)
    return _bindable(family, host, 0)


def _bindable(family: socket.AddressFamily, host: str, port: int) -> int:
    """Return a port, or for 0 one that the kernel chooses. Raises `OSError` if it is taken."""
    with socket.socket(family) as server:
        # Without SO_REUSEADDR, with which it would also get a port that another gateway has bound
        # and does not listen on yet.
        server.bind((host, port))
        return int(server.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a listener there."""
    return host == "localhost" or (
        is_address(host) and ipaddress.ip_address(host.strip("[]")).is_loopback
    )


def is_address(name: str) -> bool:
    """Return whether a host is an IP address, as in URLs or without brackets, and no name."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
