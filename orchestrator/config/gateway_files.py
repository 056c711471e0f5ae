"""Files that only a gateway reads: its certificate, and the secret of keys that hosts share."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from typing import Final

from contract.config import KeysConfig
from contract.config.gateway import TlsConfig
from contract.key_sharing.shared_keys import read_secret
from contract.keys import KeyFileError
from contract.paths import of_project
from contract.process.tls import CertificateExpiredError, TlsError, files_of, present
from orchestrator.config.findings import Finding

#: Those who renew certificates do so a month before their end.
SOON_S: Final = 14 * 86_400
_DAY_S: Final = 86_400
_KEYS: Final = ["gateway", "tls"]


def look_at_certificate(tls: TlsConfig) -> Iterator[Finding]:
    """Yield what is wrong with the files. One that is too old can be served, so that is no reason
    not to start. Takes milliseconds."""
    files = files_of(tls)
    try:
        left_s = present(files).expires_unix_s - time.time()
    except TlsError as error:
        is_fatal = not isinstance(error, CertificateExpiredError)
        yield Finding(_KEYS, f"`gateway.tls`: {error}", error.fix, is_fatal)
        return
    if left_s < SOON_S:
        yield Finding(_KEYS, f"{files.certificate} {ends_in(left_s)}", "have it renewed", False)
    if files.key.stat().st_mode & stat.S_IROTH:
        message = f"{files.key} can be read by every user of this host"
        yield Finding([*_KEYS, "key_file"], message, f"`chmod o= {files.key}`", False)


def look_at_secret(keys: KeysConfig) -> Iterator[Finding]:
    """Yield what is wrong with the file. Without it the gateway serves with the keys that it
    knows."""
    try:
        read_secret(of_project(keys.secret_file or ""))
    except KeyFileError as error:
        fix = "all hosts with gateways need the same one"
        yield Finding(["keys", "secret_file"], str(error), fix, False)


def ends_in(left_s: float) -> str:
    """Return the rest of a certificate's life, in words."""
    days = int(left_s // _DAY_S)
    return "expires today" if days < 1 else f"expires in {days} day{'s' if days > 1 else ''}"
