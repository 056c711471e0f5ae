"""Figures of every process and of Redis, taken at intervals, and whether they grow."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import redis
from hosts import Host, Setting

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
#: A name made of digits and letters of which there are very many: ids of jobs, workers, processes.
_ID: Final = re.compile(r"[0-9a-f]{6,}|(?<=[-:])\d+|\d{4}-\d\d(-\d\d)?")
#: Of a run, before growth counts: a quarter, and what ew keeps of a request (20 minutes) has come
#: to its level; at most the half.
_WARM_UP: Final = 0.25
_KEPT_S: Final = 1260.0
#: The keys of what `ew trace` knows of jobs that have ended.
_TRACES: Final = ":lives"
#: Samples that a line is put through at least.
_LEAST_SAMPLES: Final = 6


class Trend(NamedTuple):
    """A straight line through the samples after the warm-up."""

    first: float
    last: float
    most: float
    per_hour: float
    #: Of `per_hour`, one standard deviation.
    give_or_take: float
    samples: int


class Sampler:
    """Series of figures by name: lists of (second of the run, figure)."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._began = time.monotonic()
        self.series: dict[str, list[tuple[float, float]]] = {}
        #: Keys in Redis by their pattern, at the last look.
        self.keys: Counter[str] = Counter()
        #: CPU seconds of each process that was ever seen.
        self._cpu: dict[int, float] = {}

    async def run(self, every_s: float, until: float) -> None:
        while time.monotonic() < until:
            await self.sample()
            await asyncio.sleep(min(every_s, max(0.0, until - time.monotonic())))

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes of both hosts, at least: what one has used after the last
        look at it is not known."""
        return sum(self._cpu.values())

    async def sample(self) -> None:
        for host in (self._setting.killed, self._setting.kept):
            for name, pid in host.pids().items():
                self._process(f"{host.name}: {name}", pid)
            self._add(f"{host.name}: files, MiB", _disk_bytes(host) / 2**20)
            self._add(f"{host.name}: files, number", _files(host))
        try:
            await asyncio.to_thread(self._redis)
        except (redis.RedisError, OSError):
            return  # it is just dead

    def _process(self, name: str, pid: int) -> None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            opened = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return
        self._cpu[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        self._add(f"{name}, resident MiB", int(fields[21]) * _PAGE / 2**20)
        self._add(f"{name}, open files", opened)
        self._add(f"{name}, threads", int(fields[17]))

    def _redis(self) -> None:
        path = str(self._setting.killed.valkey_socket())
        with redis.Redis(unix_socket_path=path, socket_timeout=5) as client:
            info = client.info()
            keys = [key.decode() for key in client.scan_iter(count=1000)]
            traces = sum(client.memory_usage(key) or 0 for key in keys if key.endswith(_TRACES))
        self.keys = Counter(_ID.sub("*", key) for key in keys)
        self._add("Redis: data but traces, MiB", (info["used_memory_dataset"] - traces) / 2**20)
        self._add("Redis: traces (kept for a week), MiB", traces / 2**20)
        self._add("Redis: keys", self.keys.total())
        self._add("Redis: clients", info["connected_clients"])

    def _add(self, name: str, figure: float) -> None:
        at = round(time.monotonic() - self._began, 1)
        self.series.setdefault(name, []).append((at, round(figure, 3)))

    def trends(self) -> dict[str, Trend]:
        """Of each series that is long enough."""
        end = time.monotonic() - self._began
        found = {}
        for name, points in self.series.items():
            begins = max(_WARM_UP * end, min(_KEPT_S, end / 2))
            warm = [point for point in points if point[0] >= begins]
            if len(warm) >= _LEAST_SAMPLES:
                found[name] = _trend(warm)
        return found


def _trend(points: list[tuple[float, float]]) -> Trend:
    hours, figures = [at / 3600 for at, _ in points], [figure for _, figure in points]
    slope, offset = statistics.linear_regression(hours, figures)
    spread = sum((hour - statistics.mean(hours)) ** 2 for hour in hours)
    rest = sum(
        (figure - offset - slope * hour) ** 2 for hour, figure in zip(hours, figures, strict=True)
    )
    error = (rest / (len(points) - 2) / spread) ** 0.5
    return Trend(figures[0], figures[-1], max(figures), slope, error, len(points))


def _disk_bytes(host: Host) -> int:
    return sum(size for _, size in _sizes(host))


def _files(host: Host) -> int:
    return sum(1 for _ in _sizes(host))


def _sizes(host: Host) -> list[tuple[str, int]]:
    """Every file of a host's state, with its bytes."""
    found = []
    for folder, _, names in os.walk(host.state):
        for name in names:
            path = Path(folder, name)
            try:
                found.append((str(path), path.stat().st_size))
            except OSError:
                continue
    return found
