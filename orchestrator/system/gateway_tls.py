"""TLS of a command that asks the gateway of this host: it trusts the certificate that the gateway
was given, whichever name that is for, and no other."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

from contract.process.tls import TlsError, client_context
from orchestrator.errors import UserError

OWN_VARIABLE: Final = "EW_CLIENT_CERTIFICATE"


def tls_context(certificate: str) -> ssl.SSLContext | None:
    """Return the context for a gateway with this certificate; None for one without TLS. The
    user's own certificate is that of EW_CLIENT_CERTIFICATE. Raises `UserError`."""
    if not certificate:
        return None
    own = os.environ.get(OWN_VARIABLE)
    try:
        return client_context(Path(certificate), Path(own) if own else None)
    except TlsError as error:
        raise UserError(str(error), error.fix) from None
