"""The sections of logs and of traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.config.section import Section


class LogsConfig(Section):
    """Log lines of ew's own processes, and the access log."""

    format: Literal["text", "json"] = Field(
        "text", description="Lines of text, or one JSON object a line; engines write as they like."
    )
    access: bool = Field(
        True, description="Write a line to `access.log` for each request that was answered."
    )
    max_bytes: int = Field(
        52_428_800,
        ge=1_048_576,
        description="The size at which a log is put aside (`NAME.log.1`) and begun anew.",
    )
    journal: bool = Field(
        False, description="Send ew's own lines, and the access log, to systemd's journal as well."
    )


class TracingConfig(Section):
    """Traces of requests, sent to an OpenTelemetry collector. OpenTelemetry's own variables
    (`OTEL_*`) say the rest, and win."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]",
        description="The collector, by OTLP over HTTP, such as `http://127.0.0.1:4318`. There are "
        "no traces if it is unset, unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set.",
    )
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="The share of traces that is kept, of requests whose `traceparent` does not "
        "say.",
    )
