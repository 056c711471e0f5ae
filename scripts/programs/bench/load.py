"""The load: many streams at once, opened by a program in C, so that it takes little of the CPU."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

_SOURCE = Path(__file__).with_name("sseload.c")


class Load(NamedTuple):
    """The result of one load: `good` of `streams` streams were complete. Times in ms."""

    streams: int
    good: int
    events: int
    wall_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    gap_p50_ms: float
    gap_p99_ms: float
    load_cpu_s: float


class LoadGenerator:
    """The compiled program, in a directory that is removed with it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ew-bench-")
        self._program = Path(self._directory.name, "sseload")
        try:
            subprocess.run(["cc", "-O2", "-o", self._program, _SOURCE], check=True)
        except FileNotFoundError:
            raise SystemExit("there is no C compiler (cc) for the load generator") from None

    def command(
        self, port: int, path: str, body: dict[str, Any], streams: int, key: str
    ) -> list[str]:
        """The command line that sends `body` on so many connections at once."""
        # Each has a file of its own: another may still have to read the last.
        with tempfile.NamedTemporaryFile(
            "w", suffix=".json", dir=self._directory.name, delete=False
        ) as file:
            json.dump(body, file)
        header = [f"Authorization: Bearer {key}"] if key else []
        return [str(self._program), str(port), path, file.name, str(streams), *header]

    def run(self, port: int, path: str, body: dict[str, Any], streams: int, key: str) -> Load:
        """Open all streams at once and wait for the last to end."""
        command = self.command(port, path, body, streams, key)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return Load(**json.loads(done.stdout))


def completion(model: str, tokens: int, prompt: str = "Tell me about the sea.") -> dict[str, Any]:
    """A streamed completion of exactly so many tokens."""
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0.8,
        "ignore_eos": True,
        "stream": True,
    }
