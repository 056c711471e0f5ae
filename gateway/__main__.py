"""`python -m gateway`: the HTTP server, in as many processes as the configuration says."""

from __future__ import annotations

import logging
import os
import resource
import secrets
import signal
import socket
import sys
from typing import Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from contract.config import ConfigError, GatewayConfig
from contract.logs import configure_logging
from contract.paths import COMMAND
from gateway.http_guard import GuardedProtocol
from gateway.process import HURRY, INSTANCE_VARIABLE, Settings

log = logging.getLogger(__name__)
_MOST_BY_DEFAULT: Final = 8
_CORES_PER_PROCESS: Final = 4
_MOST_FILES: Final = 65_536
#: Longer than proxies keep idle connections, so that none is closed while it is being used.
_KEEP_ALIVE_S: Final = 75
#: uvicorn kills a process that does not answer for so long, also while it still imports; its
#: own 5 s are too short on a machine that is busy loading models.
_SLOWEST_START_S: Final = 60
#: What is cut at the end of draining gets so long to be told.
_LAST_WORDS_S: Final = 7


def main() -> int:
    """Serve until SIGTERM or SIGINT (open answers may end first) or SIGQUIT (they end with an
    error at once); 0 after a clean end, 1 if the operator must do something."""
    configure_logging("gateway")
    os.environ[INSTANCE_VARIABLE] = secrets.token_hex(4)
    try:
        gateway = Settings.from_environment().config.gateway
    except ConfigError as error:
        log.error("%s", error)
        return 1
    except KeyError as error:
        log.error("the variable %s is not set; `%s start` sets it", error, COMMAND)
        return 1
    _allow_many_connections()
    try:
        listeners = [bound_socket(*address) for address in _addresses(gateway)]
    except OSError as error:
        log.error("%s", error)
        return 1
    _serve(_server_config(gateway), listeners)
    return 0


class Processes(Multiprocess):
    """Several processes on one socket, which also hear the word to hurry."""

    def run(self) -> None:
        # Not through the queue of signals: nobody reads it while the processes drain.
        signal.signal(HURRY, lambda *_: self._pass_on())
        super().run()

    def _pass_on(self) -> None:
        for process in self.processes:
            if process.pid is not None and process.process.is_alive():
                os.kill(process.pid, HURRY)
        self.signal_queue.append(signal.SIGTERM)


def _addresses(gateway: GatewayConfig) -> list[tuple[str, int]]:
    addresses = [(gateway.host, gateway.port)]
    if gateway.admin_port is not None:
        # What is asked there is told by the port that it came in by.
        addresses.append((gateway.admin_host, gateway.admin_port))
    return addresses


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address that other gateway processes of this user may be listening at:
    those whose parent process has died serve until this gateway does. That nobody else has the
    port is the supervisor's to check.

    It does not listen yet: connections come to it only once there is a process that accepts them.
    Raises `OSError`.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror}"
        ) from None
    return listener


def _serve(config: uvicorn.Config, listeners: list[socket.socket]) -> None:
    # uvicorn raises the signal again when it has stopped; by then it was obeyed. Before the
    # application is there, nobody waits for an answer.
    for number in (signal.SIGTERM, signal.SIGINT, HURRY):
        signal.signal(number, lambda *_: sys.exit(0))
    if config.workers > 1:
        Processes(config, sockets=listeners).run()
    else:
        uvicorn.Server(config).run(sockets=listeners)


def _allow_many_connections() -> None:
    """Each open answer is a file; the usual limit of 1024 is for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _server_config(gateway: GatewayConfig) -> uvicorn.Config:
    return uvicorn.Config(
        "gateway.app:from_environment",
        factory=True,
        host=gateway.host,
        port=gateway.port,
        workers=process_count(gateway.processes, os.cpu_count() or 1),
        loop="uvloop",
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_worker_healthcheck=_SLOWEST_START_S,
        timeout_graceful_shutdown=int(gateway.drain_timeout_s) + _LAST_WORDS_S,
    )


def process_count(configured: int, cores: int) -> int:
    """0 leaves room for the engines, which need most of the cores."""
    return configured or max(1, min(_MOST_BY_DEFAULT, cores // _CORES_PER_PROCESS))


if __name__ == "__main__":
    sys.exit(main())
