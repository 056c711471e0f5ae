"""Batches and jobs as they are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from contract.bus.records.worker_ends import WorkerEnd
from orchestrator.client.gateway_client import NotThere
from orchestrator.errors import UserError
from orchestrator.terminal.speech import printable

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON, as the API has it.")]


@contextmanager
def naming(what: str, its_id: str, others: str) -> Iterator[None]:
    """Say which batch or job is not there, and what shows those that are."""
    try:
        yield
    except NotThere:
        raise UserError(f"no {what} `{its_id}` of this key", f"`{others}` shows them") from None


def print_json(body: object) -> None:
    sys.stdout.write(json.dumps(body, indent=2) + "\n")


def print_fields(fields: Mapping[str, str | None]) -> None:
    """Print what has a value, a line each."""
    for name, value in fields.items():
        if value:
            sys.stdout.write(f"{name:8}  {printable(value)}\n")


def end_in_words(end: WorkerEnd) -> list[str]:
    """Return how a worker ended, and how its GPUs were then."""
    lines = [f"{end.worker} on {end.host}, {date(end.unix_s)}: {end.cause}"]
    if end.hint:
        lines.append(f"  {end.hint}")
    lines += [
        f"  GPU {gpu.index} ({gpu.name}): {gpu.used_mib} of {gpu.total_mib} MiB in use; "
        f"this worker had {gpu.worker_mib} of {gpu.reserved_mib} planned, "
        f"others than ew {gpu.foreign_mib}"
        for gpu in end.gpus
    ]
    return lines


def date(unix_s: float | None) -> str:
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s):%Y-%m-%d %H:%M}"
