"""Certificates of an authority of the tests' own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from contract.process.tls import TlsFiles


class Authority:
    """Makes certificates, as files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca = trustme.CA()
        self.file = directory / "authority.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *names: str, from_day: int = -30, to_day: int = 90) -> TlsFiles:
        """Return the files `name.pem` and `name.key` of a certificate for these names, and for
        these days: 0 is now."""
        now = datetime.now(UTC)
        made = self._ca.issue_cert(
            *(names or ("127.0.0.1", "localhost")),
            not_before=now + timedelta(days=from_day),
            not_after=now + timedelta(days=to_day, minutes=1),
        )
        files = TlsFiles(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        files.certificate.write_bytes(chain)
        made.private_key_pem.write_to_path(str(files.key))
        files.key.chmod(0o600)
        return files

    def client(self, own: TlsFiles | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        return context


def section(files: TlsFiles, **more: Any) -> dict[str, Any]:
    """Return the files as `gateway.tls` names them."""
    named = {"certificate_file": str(files.certificate), "key_file": str(files.key)}
    if files.client_ca is not None:
        named["client_ca_file"] = str(files.client_ca)
    return named | more
