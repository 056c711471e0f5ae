"""`ew batch`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.cli.commands import plain_app
from orchestrator.cli.use.shown import Json, date, naming, print_fields, print_json
from orchestrator.client.batches import ENDS, Batch, Batches, endpoint_of
from orchestrator.client.gateway_access import owner_gateway
from orchestrator.client.gateway_client import Unavailable
from orchestrator.errors import UserError
from orchestrator.terminal.progress import Progress, clock
from orchestrator.terminal.speech import printable, say

app = plain_app(
    help="Run files of requests; list, show, wait for and cancel batches.", no_args_is_help=True
)
_MOST_FAULTS: Final = 5
BatchId = Annotated[str, typer.Argument(metavar="ID", help="The batch: batch_...")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the answers go; the errors go beside them."),
]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The requests, one JSON object a line.")],
    out: Out = None,
    endpoint: Annotated[
        str, typer.Option(metavar="PATH", help="The `url` of the lines; that of the first if left.")
    ] = "",
    window: Annotated[
        str, typer.Option(metavar="TIME", help="How long it may take: 90m, 24h, 30d at most.")
    ] = "24h",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Run a file of requests, and wait for the answers.

    Exits with 1 unless every line was answered. Ctrl-C leaves the batch running. Uses the key in
    EW_API_KEY, to which the batch then belongs.
    """
    files = _Files.of(out or _beside(file, "output"), is_forced=force)
    progress = Progress()
    with _batches() as batches:
        found = endpoint_of(file, progress.update)
        endpoint = endpoint or found
        if not endpoint:
            raise UserError(f"{file}, line 1: no `url`", "`--endpoint` names one for its lines")
        batch = batches.begin(file, endpoint, window, progress.update)
        progress.say(f"{batch['id']} has begun")
        _finish(batches, batch["id"], files, progress, as_json=as_json)


@app.command()
def wait(batch: BatchId, out: Out = None, force: Force = False, as_json: Json = False) -> None:
    """Wait for a batch, and write its answers and errors to files.

    Exits with 1 unless every line was answered. Ctrl-C leaves the batch running.
    """
    files = _Files.of(out or Path(f"{Path(batch).name}.output.jsonl"), is_forced=force)
    with _batches() as batches, _naming(batch):
        _finish(batches, batch, files, Progress(), as_json=as_json)


@app.command(name="list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """List the batches of the key, the newest first."""
    with _batches() as batches:
        found = batches.newest(limit)
    if as_json:
        print_json(found)
    elif found:
        rows = [f"{'ID':30}  {'STATE':11}  {'CREATED':16}  {'LINES':>9}  {'FAILED':>7}  ENDPOINT"]
        sys.stdout.write("\n".join([*rows, *map(_row, found)]) + "\n")
    else:
        say("no batches of this key; `./ew batch run FILE` makes one")


@app.command()
def show(batch: BatchId, as_json: Json = False) -> None:
    """Show how far a batch is."""
    with _batches() as batches, _naming(batch):
        _print(batches.find(batch), as_json=as_json)


@app.command()
def cancel(batch: BatchId, as_json: Json = False) -> None:
    """Cancel a batch; lines that were answered stay so."""
    with _batches() as batches, _naming(batch):
        _print(batches.cancel(batch), as_json=as_json)
    say(f"`./ew batch wait {batch}` writes what was answered")


class _Files:
    """Where the answers and the errors of a batch go."""

    def __init__(self, answers: Path, errors: Path) -> None:
        self.answers = answers
        self.errors = errors

    @classmethod
    def of(cls, answers: Path, *, is_forced: bool) -> _Files:
        """Raises `UserError` rather than after hours."""
        files = cls(answers, _beside(answers, "errors"))
        if not answers.parent.is_dir():
            raise UserError(f"no directory {answers.parent}", "make it, or name another file")
        for path in (files.answers, files.errors):
            if path.exists() and not is_forced:
                hint = "`--out` names another file, `--force` replaces it"
                raise UserError(f"{path} is there already", hint)
        return files


def _finish(
    batches: Batches, batch_id: str, files: _Files, progress: Progress, *, as_json: bool
) -> None:
    """Wait for a batch and write what it made. Raises `UserError` unless all was answered."""
    began = time.monotonic()
    try:
        batch = batches.wait(
            batch_id, lambda each: progress.update(_progress(each, time.monotonic() - began))
        )
        progress.clear()
        _write(batches, batch, files)
    except (KeyboardInterrupt, Unavailable):
        progress.clear()
        say(f"{batch_id} goes on; `./ew batch cancel {batch_id}` ends it, and")
        say(f"`./ew batch wait {batch_id} --out {shlex.quote(str(files.answers))}` comes back")
        raise
    if as_json:
        print_json(batch)
    _judge(batch, files)


def _write(batches: Batches, batch: Batch, files: _Files) -> None:
    for name, path in (("output_file_id", files.answers), ("error_file_id", files.errors)):
        if batch[name] is not None:
            batches.write(batch[name], path)
            say(f"{path} has the {'answers' if path == files.answers else 'errors'}")
        else:
            # One of an earlier batch that was to be replaced.
            path.unlink(missing_ok=True)


def _judge(batch: Batch, files: _Files) -> None:
    """Raises `UserError` unless each line was answered."""
    counts, status = batch["request_counts"], batch["status"]
    if batch["errors"]:
        faults = [_fault(each) for each in batch["errors"]["data"]]
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        told = "\n".join([f"{batch['id']} failed:", *faults[:_MOST_FAULTS], *more])
        raise UserError(told, "put the file right, and run it again; nothing was asked")
    if status != "completed" or counts["failed"]:
        done = f"{counts['completed']} of {counts['total']} requests were answered"
        hint = f"{files.errors} says why the others were not" if batch["error_file_id"] else ""
        raise UserError(f"{batch['id']} is {status}: {done}", hint)
    say(f"{batch['id']} is completed: {counts['completed']} requests were answered")


def _fault(fault: dict[str, object]) -> str:
    where = [f"line {fault['line']}"] if fault["line"] is not None else []
    field = [f"`{fault['param']}`"] if fault["param"] else []
    return "  " + ", ".join([*where, *field, str(fault["message"])])


def _progress(batch: Batch | None, seconds: float) -> str:
    if batch is None:
        return f"the gateway does not answer; it is asked again, {clock(seconds)}"
    counts = batch["request_counts"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    done = counts["completed"] + counts["failed"]
    return f"{batch['status']}: {done} of {counts['total']}{failed}, {clock(seconds)}"


def _print(batch: Batch, *, as_json: bool) -> None:
    if as_json:
        print_json(batch)
        return
    counts = batch["request_counts"]
    fields = {
        "batch": batch["id"],
        "state": batch["status"],
        "endpoint": batch["endpoint"],
        "lines": f"{counts['total']}, {counts['completed']} answered, {counts['failed']} failed",
        "created": date(batch["created_at"]),
        "expires": "" if batch["status"] in ENDS else date(batch["expires_at"]),
        "answers": batch["output_file_id"],
        "errors": batch["error_file_id"],
    }
    print_fields(fields)
    for fault in (batch["errors"] or {"data": []})["data"]:
        sys.stdout.write(printable(_fault(fault)) + "\n")


def _row(batch: Batch) -> str:
    counts = batch["request_counts"]
    return (
        f"{batch['id']:30}  {batch['status']:11}  {date(batch['created_at']):16}  "
        f"{counts['total']:9}  {counts['failed']:7}  {batch['endpoint']}"
    )


def _naming(batch_id: str) -> AbstractContextManager[None]:
    return naming("batch", batch_id, "./ew batch list")


def _beside(path: Path, what: str) -> Path:
    """`requests.jsonl` has `requests.output.jsonl` beside it."""
    stem = path.name.removesuffix(".jsonl").removesuffix(".output")
    return path.with_name(f"{stem}.{what}.jsonl")


@contextmanager
def _batches() -> Iterator[Batches]:
    with owner_gateway() as gateway:
        yield Batches(gateway)
