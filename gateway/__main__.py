"""`python -m gateway`: the HTTP server, in as many processes as the configuration says."""

from __future__ import annotations

import gc

# Objects of modules live on: to look through them again and again, by the usual threshold,
# takes a tenth of the start. `collector.settle` ends this.
gc.set_threshold(100_000)

import sys

from pydantic import BaseModel

# Bodies of requests, and FastAPI's own models of OpenAPI, are first used after the start, many of
# them never: each is built at its first use, and not when it is imported.
BaseModel.model_config["defer_build"] = True
# FastAPI imports all of this to tell whether a model is one of pydantic's first version. None is.
sys.modules["pydantic.v1"] = None  # type: ignore[assignment]

import logging
import os
import secrets
import socket

import uvicorn

from contract.config import ConfigError, GatewayConfig
from contract.paths import COMMAND
from contract.process.logs import configure_logging
from contract.process.tls import CertificateExpiredError, TlsError, TlsFiles, files_of, present
from gateway.http import peer
from gateway.lifecycle.settings import INSTANCE_VARIABLE, ProcessSettings
from gateway.server import open_files
from gateway.server.processes import Processes, server_config

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT (open answers may end first) or SIGQUIT (they end with an
    error at once); SIGHUP replaces what serves, unseen by clients. 0 after a clean end, 1 if the
    operator must do something."""
    configure_logging("gateway")
    os.environ[INSTANCE_VARIABLE] = secrets.token_hex(4)
    try:
        config = ProcessSettings.from_environment().config
    except ConfigError as error:
        log.error("%s", error)
        return 1
    except KeyError as error:
        log.error("the variable %s is not set; `%s start` sets it", error, COMMAND)
        return 1
    gateway, logs = config.gateway, config.logs
    configure_logging("gateway", as_json=logs.format == "json", to_journal=logs.journal)
    if gateway.tls is not None and not _can_present(files_of(gateway.tls)):
        return 1
    open_files.allow_many()
    try:
        listeners = [bound_socket(*address) for address in _addresses(gateway)]
    except OSError as error:
        log.error("%s", error)
        return 1
    _serve(server_config(gateway), listeners)
    return 0


def _can_present(files: TlsFiles) -> bool:
    """Whether the certificate can be served. One that is too old can be: clients may not care."""
    try:
        present(files)
    except CertificateExpiredError as error:
        log.error("%s; %s", error, error.fix)
    except TlsError as error:
        log.error("`gateway.tls`: %s; %s", error, error.fix)
        return False
    return True


def _addresses(gateway: GatewayConfig) -> list[tuple[str, int]]:
    addresses = [(gateway.host, gateway.port)]
    if gateway.admin_port is not None:
        # Requests there are told by the port that they came in by.
        addresses.append((gateway.admin_host, gateway.admin_port))
    return addresses


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address that other gateway processes of this user may be listening at:
    those whose parent process has died serve until this gateway does. That no one else's
    process has the port is for the supervisor to check.

    It does not listen yet: connections come to it only once there is a process that accepts them.
    Raises `OSError`.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    peer.notice_if_dead(listener)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror}"
        ) from None
    return listener


def _serve(config: uvicorn.Config, listeners: list[socket.socket]) -> None:
    processes = Processes(config, listeners)
    if config.workers > 1:
        processes.run()
    else:
        processes.serve()


if __name__ == "__main__":
    sys.exit(main())
