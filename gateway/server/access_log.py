"""The access log: a line for each request that was answered, in `access.log` for all processes of
the gateway, and in systemd's journal if that is asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
from starlette.types import Scope

from contract.config import LogsConfig
from contract.logs.rotation import open_privately
from contract.messages import Done
from contract.process.journal import Journal
from gateway.http.auth import OPEN_PATHS, address_of
from gateway.http.headers import RequestContext

log = logging.getLogger(__name__)
#: Lines wait so long for others, which are written with them.
_GATHER_S: Final = 0.2
_LONGEST_PATH: Final = 512
_DATE_AND_TIME: Final = len("2026-11-29T08:30:00")


class AccessLog:
    """Appends lines soon after they are noted; it never waits for a disk or a reader. To be used
    in the event loop."""

    def __init__(self, path: Path, process: str, settings: LogsConfig) -> None:
        self._process = process
        self._settings = settings
        self._path = path
        self._lines: list[bytes] = []
        self._file: BinaryIO | None = None
        self._is_failing = False
        self._journal = Journal("ew-access") if settings.journal else None

    def note(self, scope: Scope, context: RequestContext, status: int) -> None:
        """Note that a request has come to its end, with this status (0: the client left before
        there was one). Good answers to probes are left out."""
        if not self._settings.access or (scope["path"] in OPEN_PATHS and status == 200):
            return
        fields = _fields(scope, context, status)
        if self._settings.format == "json":
            line = orjson.dumps({**self._head(fields), **fields})
        else:
            line = self._text(fields)
        if not self._lines:
            asyncio.get_running_loop().call_later(_GATHER_S, self.flush)
        self._lines.append(line)
        if self._journal is not None:
            self._journal.send("INFO", _message(fields), fields)

    def flush(self) -> None:
        """Write what has gathered. Lines that cannot be written are dropped."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._file = self._file or open_privately(self._path)
            # In one piece: several processes append to it.
            os.write(self._file.fileno(), b"\n".join(lines) + b"\n")
        except OSError as error:
            if not self._is_failing:
                log.error("requests are not logged: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._file is not None:
            self._file.close()
        if self._journal is not None:
            self._journal.close()

    def _head(self, fields: dict[str, Any]) -> dict[str, str]:
        return {
            "time": _as_text(time.time()),
            "level": "INFO",
            "process": self._process,
            "logger": "access",
            "message": _message(fields),
        }

    def _text(self, fields: dict[str, Any]) -> bytes:
        rest = " ".join([f"{name}={fields[name]}" for name in fields if name not in _SAID])
        begin = f"{_as_text(time.time())} {'INFO':7} {self._process} access: {_message(fields)}"
        return f"{begin} {rest}".encode()


def _as_text(now: float) -> str:
    """Return a Unix time as ISO 8601 has it, of this host's zone, in milliseconds."""
    second, ms = divmod(int(now * 1000), 1000)
    day, zone = _second_as_text(second)
    return f"{day}.{ms:03}{zone}"


@lru_cache(maxsize=4)
def _second_as_text(second: int) -> tuple[str, str]:
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:_DATE_AND_TIME], text[_DATE_AND_TIME:]


#: The fields that a line's message has already.
_SAID: Final = frozenset({"method", "path", "status"})


def _message(fields: dict[str, Any]) -> str:
    return f"{fields['method']} {fields['path']} {fields['status']}"


def _fields(scope: Scope, context: RequestContext, status: int) -> dict[str, Any]:
    """Return what is known of a request; what is not is left out. Never a query, a prompt or an
    answer."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": raw[:_LONGEST_PATH].decode("latin-1"),
        "status": status,
        "request_id": context.request_id,
        "client": address_of(scope),
        "duration_ms": round((time.monotonic() - context.began) * 1000, 1),
    }
    if context.trace is not None:
        fields["trace_id"] = context.trace.trace_id
    if context.key is not None:
        fields["key_id"] = context.key.id
    if context.model:
        fields["model"] = context.model
        fields["job_id"] = context.job_id
    if context.first_ms:
        fields["queue_ms"] = round(context.queue_ms, 1)
        fields["first_token_ms"] = round(context.first_ms, 1)
    if context.answers:
        fields |= _use(context.answers)
    if context.error:
        fields["error"] = context.error
    return fields


def _use(answers: Iterable[Done]) -> dict[str, Any]:
    """Return the tokens of a request's jobs, and how they ended."""
    ends = list(answers)
    return {
        "prompt_tokens": sum([each.prompt_tokens for each in ends]),
        "cached_tokens": sum([each.cached_tokens for each in ends]),
        "completion_tokens": sum([each.completion_tokens for each in ends]),
        "finish": ",".join([reason for each in ends for reason in each.finish_reasons]),
    }
