"""`ew jobs`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Annotated, Any
from urllib.parse import quote

import typer

from orchestrator.cli.commands import plain_app
from orchestrator.cli.use.shown import Json, date, naming, print_fields, print_json
from orchestrator.client.gateway_access import owner_gateway
from orchestrator.terminal.speech import printable, say

app = plain_app(
    help="List, show and cancel jobs that go on without a client.", no_args_is_help=True
)
_JOBS = "/api/v1/jobs"
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job: job_...")]
_Job = dict[str, Any]


@app.command(name="list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List the jobs of the key in EW_API_KEY, the newest first."""
    with owner_gateway() as gateway:
        jobs: list[_Job] = gateway.ask("GET", _JOBS, params={"limit": limit})["jobs"]
    if as_json:
        print_json(jobs)
    elif jobs:
        width = max(len(job["id"]) for job in jobs)
        rows = [f"{'ID':{width}}  {'STATE':9}  {'CREATED':16}  MODEL"]
        rows += [
            f"{job['id']:{width}}  {job['state']:9}  {date(job['createdUnixS']):16}  "
            f"{printable(job['modelId'])}"
            for job in jobs
        ]
        sys.stdout.write("\n".join(rows) + "\n")
    else:
        say("no jobs of this key; `POST /api/v1/jobs` makes one")


@app.command()
def show(job: JobId, as_json: Json = False) -> None:
    """Show a job, and its answer when it is done."""
    with owner_gateway() as gateway, _naming(job):
        _print(gateway.ask("GET", _path(job)), as_json=as_json)


@app.command()
def cancel(job: JobId, as_json: Json = False) -> None:
    """Cancel a job that waits or runs."""
    with owner_gateway() as gateway, _naming(job):
        _print(gateway.ask("POST", f"{_path(job)}/cancel"), as_json=as_json)


def _print(job: _Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    error, result, webhook = job["error"], job["result"], job["webhook"]
    print_fields(
        {
            "job": job["id"],
            "state": job["state"],
            "model": job["modelId"],
            "attempts": str(job["attempts"]),
            "created": date(job["createdUnixS"]),
            "started": date(job["startedUnixS"]),
            "ended": date(job["endedUnixS"]),
            "kept": job["expiresUnixS"] and f"until {date(job['expiresUnixS'])}",
            "webhook": webhook and f"{webhook['url']}, {webhook['tries']} tries {webhook['last']}",
            "error": error and f"{error['code']}: {error['message']}",
        }
    )
    if result is not None:
        sys.stdout.write(f"\n{printable(result['text'])}\n")


def _naming(job_id: str) -> AbstractContextManager[None]:
    return naming("job", job_id, "./ew jobs list")


def _path(job_id: str) -> str:
    return f"{_JOBS}/{quote(job_id, safe='')}"
