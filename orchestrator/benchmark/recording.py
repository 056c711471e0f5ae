"""Recorded traffic: a file with one request a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from orchestrator.benchmark.sender_task import Arrival
from orchestrator.errors import UserError

_FORM: Final = 'each line is `{"at": SECONDS, "url": "/v1/chat/completions", "body": {...}}`'


class _Line(msgspec.Struct):
    body: dict[str, Any]
    at: float = 0.0
    url: str = "/v1/chat/completions"
    #: Of a batch's line, like the rest.
    method: str = "POST"


def read_recording(path: Path, model: str, speed: float) -> list[Arrival]:
    """Return its requests for a model, by time, from 0 on, `speed` times as fast as they were
    recorded. Raises `UserError`."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", f"name a recording; {_FORM}") from None
    arrivals = []
    for number, text in enumerate(lines, 1):
        if text.strip():
            arrivals.append(_arrival(text, f"{path}, line {number}", model))
    if not arrivals:
        raise UserError(f"{path} has no requests", _FORM)
    first = min(each.at_s for each in arrivals)
    shifted = [msgspec.structs.replace(each, at_s=(each.at_s - first) / speed) for each in arrivals]
    return sorted(shifted, key=lambda each: each.at_s)


def _arrival(text: bytes, where: str, model: str) -> Arrival:
    try:
        line = msgspec.json.decode(text, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {error}", _FORM) from None
    if line.method != "POST":
        raise UserError(f"{where}: the method is `{line.method}`", "only POST requests are sent")
    if not line.url.startswith("/"):
        raise UserError(f"{where}: `url` is `{line.url}`", "give a path, as /v1/chat/completions")
    return Arrival(line.at, line.url.removeprefix("/v1"), line.body | {"model": model})
