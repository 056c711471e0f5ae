"""Whether a TCP port can be had, and which process holds it if not."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

import psutil

from orchestrator.errors import UserError

_ANOTHER_PORT: Final = "`./ew start --port PORT` takes another (0: any that is free)"


class PortClaims:
    """The addresses that the gateway of this ew listens at, or soon will. The caller keeps them for
    as long as it lives.

    Gateways share their ports (SO_REUSEPORT) with what is left of their predecessors. So the kernel
    lets that of another ew of the same user listen at the same address, and gives each of the two a
    part of the connections. The name of an abstract Unix socket is had by one process of a network
    namespace at a time, and is free when that process ends.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], socket.socket] = {}

    def take(self, host: str, port: int) -> None:
        """Raises `UserError` if another ew of this user has it, or if it cannot be claimed."""
        if (host, port) in self._held:
            return
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0ew-gateway-{os.getuid()}-{_address(host)}-{port}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise _unusable(host, port, error.strerror) from None
            message = f"port {port} is in use by another ew of this user, or will be soon"
            raise UserError(message, _ANOTHER_PORT) from None
        self._held[host, port] = claim

    def close(self) -> None:
        """Give all of them back."""
        for claim in self._held.values():
            claim.close()
        self._held.clear()


def require_free(host: str, port: int) -> None:
    """Raises `UserError`, which names the holder, if the port cannot be listened on."""
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except PermissionError:
        raise UserError(
            f"port {port} may only be used by root", "`./ew start --port 8080` takes another"
        ) from None
    except OSError as error:
        raise _unusable(host, port, error.strerror) from None


def _unusable(host: str, port: int, reason: str | None) -> UserError:
    listeners = _listeners()
    if port not in listeners:
        return UserError(f"cannot listen on {host} port {port}: {reason}", "check `gateway.host`")
    pid = listeners[port]
    owner = "" if pid is None else f" by {_program(pid)} (pid {pid})"
    return UserError(
        f"port {port} is in use{owner}",
        _ANOTHER_PORT,
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(host: str) -> str:
    """Raises `socket.gaierror`."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def _listeners() -> dict[int, int | None]:
    """Ports that are listened on, each with the pid, as far as we may know it."""
    return {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }


def _program(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "a program"
