"""Whether a TCP port can be had, and which process holds it if not."""

from __future__ import annotations

import socket

import psutil

from orchestrator.errors import UserError


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
        "`./ew start --port PORT` takes another (0: any that is free)",
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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
