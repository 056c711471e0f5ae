"""TLS with the files of an operator: what a server presents, and whom its clients on this host
trust. A fault of the files is one line that names the file and the next step."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.config.gateway import TlsConfig
from contract.paths import of_project

#: The first of a chain: the server's own, if the file is in the usual order.
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN (TRUSTED )?CERTIFICATE-----.+?-----END \1?CERTIFICATE-----", re.DOTALL
)
_KEY: Final = re.compile(r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
#: As OpenSSL counts them.
_EXPIRED: Final = 10
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: Messages of a handshake in memory; three each way are enough for TLS 1.2.
_MOST_TURNS: Final = 10


class TlsError(Exception):
    """The files cannot be used, or no client would accept them. `fix` is the next step."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class CertificateExpiredError(TlsError):
    """The certificate is whole, and too old."""


class TlsFiles(NamedTuple):
    """The files of a server, in PEM: its certificate (and after it those between it and the
    authority), its key, and the authorities of its clients, if these need certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    minimum_version: str = "1.2"


class Presented(NamedTuple):
    """The server's certificate as a client sees it: the names and addresses that it is for, and the
    end of its life in Unix seconds."""

    names: tuple[str, ...]
    expires_unix_s: float


def files_of(config: TlsConfig) -> TlsFiles:
    """Return the files that a configuration names."""
    return TlsFiles(
        of_project(config.certificate_file),
        of_project(config.key_file),
        None if config.client_ca_file is None else of_project(config.client_ca_file),
        config.minimum_version,
    )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context of a server. Client certificates are asked for where `client_ca` is, and
    checked if given; that one is given is for the server to see to. Raises `TlsError`."""
    _first_certificate(files.certificate)
    _check_key(files.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[files.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise _mismatch(files, error) from None
    if files.client_ca is not None:
        _first_certificate(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise TlsError(
                f"{files.client_ca}: {_plainly(error)}", "give PEM certificates"
            ) from None
    return context


def client_context(certificate: Path, own: Path | None = None) -> ssl.SSLContext:
    """Return the context of a client on the server's host: it trusts the one certificate that is in
    this file, whichever name it is for. `own` is the client's certificate and key, in one file.

    Raises `TlsError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=_first_certificate(certificate))
    except ssl.SSLError as error:
        raise TlsError(f"{certificate}: {_plainly(error)}", _IN_PEM) from None
    if own is not None:
        _first_certificate(own)
        _check_key(own)
        try:
            context.load_cert_chain(own)
        except ssl.SSLError as error:
            raise _mismatch(TlsFiles(own, own), error) from None
    return context


def present(files: TlsFiles) -> Presented:
    """Return what clients are shown, by a handshake of a server with these files and a client in
    this process: some milliseconds. Raises `TlsError`."""
    server = server_context(files)
    client = client_context(files.certificate)
    try:
        shown = _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        kind = CertificateExpiredError if error.verify_code == _EXPIRED else TlsError
        raise kind(
            f"clients refuse {files.certificate}: {error.verify_message}",
            "have its authority make a new one",
        ) from None
    except ssl.SSLError as error:
        raise TlsError(f"{files.certificate}: {_plainly(error)}", _IN_PEM) from None
    names = tuple(str(value) for _, value in shown.get("subjectAltName", ()))
    return Presented(names, float(ssl.cert_time_to_seconds(str(shown["notAfter"]))))


_IN_PEM: Final = "give a certificate in PEM, which begins with `-----BEGIN CERTIFICATE-----`"


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate as the client has it. Raises `ssl.SSLError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_MOST_TURNS):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return dict(ends[0].getpeercert() or {})


def _first_certificate(path: Path) -> str:
    """Raises `TlsError` if there is none."""
    found = _CERTIFICATE.search(_text(path))
    if found is None:
        raise TlsError(f"{path} has no certificate in it", _IN_PEM)
    return found[0]


def _check_key(path: Path) -> None:
    text = _text(path)
    found = _KEY.search(text)
    if found is None:
        fix = "give a key in PEM, which begins with `-----BEGIN PRIVATE KEY-----`"
        raise TlsError(f"{path} has no private key in it", fix)
    if found[1] == "ENCRYPTED " or "Proc-Type: 4,ENCRYPTED" in text:
        # OpenSSL would ask for the passphrase at the terminal.
        message = f"{path} is encrypted with a passphrase, and a server cannot be asked for it"
        raise TlsError(message, f"`openssl pkey -in {path} -out NEW` writes it without")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except FileNotFoundError:
        raise TlsError(f"{path} does not exist", "name a file, relative to the project") from None
    except PermissionError:
        fix = f"let the user that runs ew (uid {os.getuid()}) read it"
        raise TlsError(f"{path} cannot be read", fix) from None
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}", "name a file that can be read") from None


def _mismatch(files: TlsFiles, error: ssl.SSLError) -> TlsError:
    if error.reason == "KEY_VALUES_MISMATCH":
        message = f"the key in {files.key} is not that of the first certificate in "
        message += str(files.certificate)
        return TlsError(message, "give those of one pair, the server's own certificate first")
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        message = f"{files.certificate} is too weak for today's clients ({_plainly(error)})"
        return TlsError(message, "have its authority make a new one")
    message = f"{files.certificate} and {files.key} cannot be read: {_plainly(error)}"
    return TlsError(message, "`openssl x509` and `openssl pkey` show which of them is damaged")


def _plainly(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
