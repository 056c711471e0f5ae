"""Streams without an end, open for as long as they are needed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from load import LoadGenerator, completion
from stand import Stand

#: More tokens than any stream has come to when its part ends.
_ENDLESS = 30_000
_OPENED_WITHIN_S = 120


@contextmanager
def open_streams(
    stand: Stand, generator: LoadGenerator, streams: int, prompt: str, beside: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """So many `beside` those that there are, by one process."""
    wait_for(stand, beside)
    body = completion("mock", _ENDLESS, prompt)
    command = generator.command(stand.port, "/v1/completions", body, streams, stand.key)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        try:
            wait_for(stand, beside + streams)
            yield load
        finally:
            load.kill()


def wait_for(stand: Stand, streams: int) -> None:
    """Until so many are open, as the status says, which is some seconds old. Raises `SystemExit`
    if that does not come."""
    deadline = time.monotonic() + _OPENED_WITHIN_S
    while (found := stand.status()["gateway"]["open_streams"]) != streams:
        if time.monotonic() > deadline:
            raise SystemExit(
                f"{found} streams are open, not {streams}, after {_OPENED_WITHIN_S} s; "
                "is the limit of open files (ulimit -Hn) large enough for them?"
            )
        time.sleep(0.2)
