"""`ew trace`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer
from msgspec import to_builtins

from contract.bus.views.trace import Moment
from orchestrator.cli.use.shown import Json, date, print_fields, print_json
from orchestrator.client.records.trace import trace as trace_job
from orchestrator.config.selection import read_config
from orchestrator.terminal.speech import printable

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id, or that of its request (`X-Request-Id`) or of its answer."
    ),
]


def trace(job: JobId, as_json: Json = False) -> None:
    """Tell a job's life in order: attempts, workers, hosts, and why each ended."""
    found = trace_job(read_config(), job)
    if as_json:
        print_json(to_builtins(found))
        return
    began_ms = found.moments[0].at_ms or 0
    print_fields(
        {
            "job": found.job_id,
            "request": found.request_id if found.request_id != found.job_id else None,
            "model": found.model,
            "key": found.key_id,
            "state": found.state,
            "began": date(began_ms / 1000),
        }
    )
    lines = ["", *(_line(each, began_ms) for each in found.moments)]
    lines += ["", *found.log] if found.log else []
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)


def _line(moment: Moment, began_ms: int) -> str:
    if moment.at_ms is None:
        when = f"{'':12}  {'':>10}"
    else:
        clock = datetime.fromtimestamp(moment.at_ms / 1000).strftime("%H:%M:%S.%f")[:-3]
        when = f"{clock:12}  {f'+{(moment.at_ms - began_ms) / 1000:.3f} s':>10}"
    who = " ".join(
        part
        for part in (
            f"attempt {moment.attempt}" if moment.attempt else "",
            moment.worker,
            f"({moment.engine})" if moment.engine else "",
            f"on {moment.host}" if moment.host else "",
        )
        if part
    )
    told = ": ".join(part for part in (who, moment.text) if part)
    return f"{when}  {moment.what.replace('_', ' '):11}  {told}".rstrip()
