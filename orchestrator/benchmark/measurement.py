"""The results of a load test, as they are written: docs/bench.md describes the JSON."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestrator.benchmark.load_generator import BUSY
from orchestrator.benchmark.tally import Tally, TimeHistogram
from orchestrator.system.version import version

FORMAT: Final = 1
#: A sender that is behind its clock by more measures itself, in ms.
_LATE_MS: Final = 50.0
_DIGITS: Final = 2


class Spread(msgspec.Struct, frozen=True):
    """Quantiles in ms; None where nothing was measured."""

    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: TimeHistogram) -> Spread:
        found = (histogram.quantile_ms(share) for share in (0.5, 0.9, 0.99))
        return cls(*(None if each is None else round(each, _DIGITS) for each in found))


class RequestOutcomes(msgspec.Struct, frozen=True):
    """Requests that were answered, that failed, and that were still open at the end."""

    good: int
    failed: int
    cut: int


class GeneratorLoad(msgspec.Struct, frozen=True):
    """The cost of the load generator: CPU of its busiest process, in percent of a core, and of all
    of them together; by how much it was behind its clock."""

    processes: int
    busiest_percent: float
    cpu_percent: float
    late_p99_ms: float | None

    @property
    def may_limit(self) -> bool:
        """Whether the figures may be the generator's and not the server's."""
        is_late = self.late_p99_ms is not None and self.late_p99_ms > _LATE_MS
        return self.busiest_percent > 100 * BUSY or is_late


class Measurement(msgspec.Struct, frozen=True):
    """One run: one server, one number of streams (None for a recording)."""

    server: int
    streams: int | None
    seconds: float
    is_interrupted: bool
    requests: RequestOutcomes
    tokens_per_s: float
    requests_per_s: float
    ttft_ms: Spread
    gap_ms: Spread
    latency_ms: Spread
    tokens_by_second: list[float]
    errors: dict[str, int]
    generator: GeneratorLoad

    @classmethod
    def of(
        cls, tally: Tally, processes: int, server: int, streams: int | None, *, is_interrupted: bool
    ) -> Measurement:
        per_event, seconds = tally.tokens_per_event, tally.seconds
        late = tally.late.quantile_ms(0.99)
        return cls(
            server=server,
            streams=streams,
            seconds=round(seconds, _DIGITS),
            is_interrupted=is_interrupted,
            requests=RequestOutcomes(tally.good, tally.failed, tally.cut),
            tokens_per_s=round(sum(tally.events_by_second) * per_event / seconds, _DIGITS),
            requests_per_s=round(tally.good / seconds, _DIGITS),
            ttft_ms=Spread.of(tally.ttft),
            gap_ms=Spread.of(tally.gap),
            latency_ms=Spread.of(tally.latency),
            tokens_by_second=[round(each * per_event, 1) for each in tally.events_by_second],
            errors=tally.errors,
            generator=GeneratorLoad(
                processes=processes,
                busiest_percent=round(100 * tally.busiest, 1),
                cpu_percent=round(100 * tally.cpu_s / seconds, 1),
                late_p99_ms=None if late is None else round(late, _DIGITS),
            ),
        )


class MeasuredServer(msgspec.Struct, frozen=True):
    """One of the servers that were measured."""

    name: str
    url: str
    model: str


class BenchResult(msgspec.Struct):
    """All of one `ew bench`."""

    began: str
    settings: dict[str, Any]
    servers: list[MeasuredServer]
    runs: list[Measurement] = msgspec.field(default_factory=list)
    format: int = FORMAT
    ew: str = msgspec.field(default_factory=version)
    host: dict[str, Any] = msgspec.field(default_factory=lambda: client_host())

    def runs_of(self, server: int) -> list[Measurement]:
        return [run for run in self.runs if run.server == server]


def client_host() -> dict[str, Any]:
    """Return what decides of the speed of the host that the load comes from."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_name(),
        "load_average": [round(each, _DIGITS) for each in os.getloadavg()],
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
