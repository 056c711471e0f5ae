"""Where a client wants to be told."""

from __future__ import annotations

import base64
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from gateway.api.fields import StrictBody


def _secret(value: str) -> str:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not value.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("must be `whsec_` and 24 to 64 bytes in base64")
    return value


class WebhookBody(StrictBody):
    """A request of Standard Webhooks to `url`, signed with `secret`: `whsec_` and 24 to 64 bytes in
    base64, yours and never shown again."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    secret: Annotated[str, AfterValidator(_secret)]
