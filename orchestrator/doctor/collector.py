"""The collector of traces: whether it takes spans."""

from __future__ import annotations

from typing import Final

import httpx

from orchestrator.environments.preflight import Check

_PATIENCE_S: Final = 3.0


def ask(endpoint: str) -> Check:
    """Send it no spans at all, as OTLP lets one do. Blocks for seconds."""
    url = f"{endpoint.rstrip('/')}/v1/traces"
    headers = {"content-type": "application/x-protobuf"}
    try:
        answer = httpx.post(url, content=b"", headers=headers, timeout=_PATIENCE_S)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = str(error) or type(error).__name__
        fix = "start the collector, or mend `tracing.endpoint`; requests are served without"
        return Check("collector", f"{url} does not answer: {reason}", fix)
    if not answer.is_success:
        fix = "it should be the address of OTLP over HTTP, usually port 4318"
        return Check("collector", f"{url} takes no spans (HTTP {answer.status_code})", fix)
    return Check("collector", f"{url} takes spans")
