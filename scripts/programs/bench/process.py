"""A server that a benchmark starts: it answers before it is used, and all of it is ended."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from load import completion

_STARTS_WITHIN_S = 60
_LEAVES_WITHIN_S = 15
#: Of its log, where it does not start.
_SHOWN = 2000


@contextmanager
def started(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    model: str = "mock",
    environment: dict[str, str] | None = None,
    within_s: float = _STARTS_WITHIN_S,
) -> Iterator[int]:
    """A process that answers for a model at its port; its pid is that of its process group, too,
    which a Ctrl-C in the terminal does not reach. Raises `SystemExit` if it does not answer."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + within_s
        while not _answers(port, model):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-_SHOWN:]
                raise SystemExit(f"{' '.join(map(str, command))}: it does not answer: {said}")
            time.sleep(0.1)
        yield process.pid
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, which may stand still, and whatever is left of its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LEAVES_WITHIN_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(port: int, model: str) -> bool:
    body = json.dumps(completion(model, 1))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return b"[DONE]" in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
