"""The settings of traces: the configuration, and OpenTelemetry's own variables over it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import unquote

from contract.config import TracingConfig

_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_ID_RANGE: Final = 2**64


class TracingSettings(NamedTuple):
    """Where spans are sent and how, and which traces are kept."""

    url: str
    headers: dict[str, str]
    resource: dict[str, str]
    timeout_s: float
    compresses: bool
    ca_file: str | None
    #: The share of new traces that is kept; and whether a client's word on its own is heeded.
    ratio: float
    heeds_parents: bool
    #: Spans that may wait, that are sent at once, and how long they wait for others.
    most_waiting: int
    at_once: int
    every_s: float

    def samples(self, trace_id: bytes) -> bool:
        """Return whether a trace is kept: the same for its id wherever that is asked."""
        return int.from_bytes(trace_id[8:], "big") < self.ratio * _ID_RANGE


def tracing_settings(config: TracingConfig) -> TracingSettings | None:
    """Return the settings; None if there are to be no traces. Raises `ValueError`, which names the
    variable that is not understood."""
    url = _otlp("ENDPOINT", own=True)
    if not url:
        base = _variable(f"{_OTLP}ENDPOINT") or config.endpoint
        url = f"{base.rstrip('/')}/v1/traces" if base else ""
    exporter = _variable("OTEL_TRACES_EXPORTER") or "otlp"
    if not url or exporter == "none" or _variable("OTEL_SDK_DISABLED").lower() == "true":
        return None
    _check("OTEL_TRACES_EXPORTER", exporter, "otlp", "none")
    _check(f"{_OTLP}PROTOCOL", _otlp("PROTOCOL") or "http/protobuf", "http/protobuf")
    compression = _otlp("COMPRESSION") or "none"
    _check(f"{_OTLP}COMPRESSION", compression, "gzip", "none")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{_OTLP}ENDPOINT is {url}; it must be like http://127.0.0.1:4318")
    ratio, heeds_parents = _sampler(config.sample_ratio)
    most_waiting = round(_number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, least=1))
    return TracingSettings(
        url=url,
        headers=_pairs(f"{_OTLP}HEADERS") | _pairs(f"{_OTLP}TRACES_HEADERS"),
        resource=_resource(),
        timeout_s=_number(f"{_OTLP}TIMEOUT", 10_000, least=1) / 1000,
        compresses=compression == "gzip",
        ca_file=_otlp("CERTIFICATE") or None,
        ratio=ratio,
        heeds_parents=heeds_parents,
        most_waiting=most_waiting,
        at_once=min(most_waiting, round(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, least=1))),
        every_s=_number("OTEL_BSP_SCHEDULE_DELAY", 5000, least=1) / 1000,
    )


def _sampler(share: float) -> tuple[float, bool]:
    name = _variable("OTEL_TRACES_SAMPLER")
    kinds: dict[str, Callable[[], float]] = {
        "always_on": lambda: 1.0,
        "always_off": lambda: 0.0,
        "traceidratio": lambda: _number("OTEL_TRACES_SAMPLER_ARG", 1.0, least=0),
    }
    if not name:
        return share, True
    kind = name.removeprefix("parentbased_")
    _check("OTEL_TRACES_SAMPLER", name, *kinds, *(f"parentbased_{each}" for each in kinds))
    return kinds[kind](), kind != name


def _resource() -> dict[str, str]:
    given = _pairs("OTEL_RESOURCE_ATTRIBUTES")
    name = _variable("OTEL_SERVICE_NAME")
    return given | ({"service.name": name} if name else {})


def _otlp(name: str, *, own: bool = False) -> str:
    """Return a variable of the exporter's; the one for traces goes before that of all signals."""
    general = "" if own else _variable(_OTLP + name)
    return _variable(f"{_OTLP}TRACES_{name}") or general


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _number(name: str, usual: float, *, least: float) -> float:
    text = _variable(name)
    try:
        number = float(text) if text else usual
    except ValueError:
        number = least - 1
    if not least <= number < float("inf"):
        raise ValueError(f"{name} is {text}; it must be a number, {least:g} at least")
    return number


def _pairs(name: str) -> dict[str, str]:
    """Read `a=b,c=d`, with values in percent-encoding."""
    pairs = [pair.partition("=") for pair in _variable(name).split(",") if pair.strip()]
    if any(not key.strip() or not equals for key, equals, _ in pairs):
        raise ValueError(f"{name} must be like key=value,key=value")
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}


def _check(name: str, value: str, *known: str) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value}; ew knows {', '.join(known)}")
