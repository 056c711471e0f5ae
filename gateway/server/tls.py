"""TLS of one gateway process: with the files as they are now, and who must show a certificate."""

from __future__ import annotations

import logging
import ssl
import time
from functools import partial
from typing import Any, Final

import uvicorn

from contract.process.tls import TlsError, TlsFiles, present, server_context
from gateway.http.auth import OPEN_PATHS
from gateway.http.errors import ApiError
from gateway.http.watched_file import WatchedFile

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0


class CurrentTls:
    """The context for new connections. Connections keep the one that they began with, so nothing
    that is open notices a new certificate. Files that cannot be used change nothing.

    The files are looked at when a client connects, at most once a second.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises `TlsError`."""
        self._files = files
        self._watched = [WatchedFile(path) for path in files[:3] if path is not None]
        self._looked = time.monotonic()
        self._problem = ""
        self._current = server_context(files)
        #: The listener's. OpenSSL asks it for each connection, also of clients that name no server.
        self.listening = server_context(files)
        self.listening.sni_callback = self._choose

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            self._look()
        connection.context = self._current

    def _look(self) -> None:
        # All of them, so that each has its new stamp.
        changed = [each.has_changed() for each in self._watched]
        if not any(changed) and not self._problem:
            return
        try:
            shown = present(self._files)
            self._current, problem = server_context(self._files), ""
        except TlsError as error:
            problem = str(error)
        if not problem:
            until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(shown.expires_unix_s))
            log.info("new connections get the certificate that is valid until %s", until)
        elif problem != self._problem:
            # The two files change one after the other: this may pass.
            log.warning("the certificate stays as it was: %s", problem)
        self._problem = problem


def context_factory(files: TlsFiles) -> Any:
    """Return what makes uvicorn's context, in each of its processes."""
    return partial(_make_context, files)


def _make_context(files: TlsFiles, config: uvicorn.Config, default: Any) -> ssl.SSLContext:
    return CurrentTls(files).listening


def certificate_problem(
    connection: Any, context: ssl.SSLContext | None, url: bytes
) -> ApiError | None:
    """Return why a request is refused for want of a client certificate; None if it is not.
    `connection` is the transport's `ssl_object`. Probes need none: they could not have any."""
    if context is None or context.verify_mode is ssl.CERT_NONE or connection.getpeercert():
        return None
    if url.partition(b"?")[0].decode("latin-1") in OPEN_PATHS:
        return None
    return ApiError("missing_certificate", "connect with a client certificate")
