"""A certificate that needs its operator's care, told in the status in time."""

from __future__ import annotations

import time
from typing import Final

from contract.config import GatewayConfig
from orchestrator.config.gateway_files import look_at_certificate
from orchestrator.protocol.specs import GatewaySpec

_LOOK_EVERY_S: Final = 30.0


class CertificateWatch:
    """Looks at the files every half a minute: some milliseconds."""

    def __init__(self) -> None:
        self._looked = -_LOOK_EVERY_S
        self._spec: GatewaySpec | None = None
        self._remark = ""

    def remark(self, spec: GatewaySpec) -> str:
        """Return what is wrong with the certificate; empty if nothing is, and without TLS."""
        if not spec.certificate:
            return ""
        now = time.monotonic()
        if spec is not self._spec or now - self._looked >= _LOOK_EVERY_S:
            self._spec, self._looked = spec, now
            self._remark = _remark(spec)
        return self._remark


def _remark(spec: GatewaySpec) -> str:
    tls = GatewayConfig(**spec.config["gateway"]).tls
    found = look_at_certificate(tls) if tls is not None else ()
    return next((each.message for each in found), "")
