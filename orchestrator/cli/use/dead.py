"""`ew dead`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from contract.bus.records.dead_letters import DeadLetter
from contract.bus.turns import prompt_tokens
from orchestrator.cli.commands import plain_app
from orchestrator.cli.use.shown import Json, date, end_in_words, print_fields, print_json
from orchestrator.client.records.dead_letters import (
    dead_letters,
    drop_letter,
    ends_of,
    last_lines,
    replay_letter,
)
from orchestrator.config.key_file import KeyFile
from orchestrator.config.selection import read_config
from orchestrator.errors import UserError
from orchestrator.terminal.speech import printable, say

app = plain_app(
    help="List, show, replay and drop requests that broke their workers.", no_args_is_help=True
)
LetterId = Annotated[str, typer.Argument(metavar="ID", help="The request, as `list` shows it.")]


@app.command(name="list")
def list_letters(as_json: Json = False) -> None:
    """List the requests that were given up, the newest first."""
    letters = dead_letters(read_config())
    if as_json:
        print_json([_record(each) for each in letters])
    elif letters:
        width = max(len(each.id) for each in letters)
        rows = [f"{'ID':{width}}  {'SINCE':16}  {'REASON':10}  MODEL"]
        rows += [
            f"{printable(each.id):{width}}  {date(each.unix_s):16}  {each.reason:10}  "
            f"{printable(each.model)}"
            for each in letters
        ]
        sys.stdout.write("\n".join(rows) + "\n")
    else:
        say("no request was given up")


@app.command()
def show(letter: LetterId, as_json: Json = False) -> None:
    """Show one, without its prompt: how the workers that it broke ended, and their last words."""
    found = _find(letter)
    record, last, ends = _record(found), last_lines(found), ends_of(read_config(), found)
    if as_json:
        print_json({**record, "ends": to_builtins(ends), "log": last})
        return
    tokens = record["prompt_tokens"]
    print_fields(
        {
            "id": found.id,
            "model": found.model,
            "reason": found.reason,
            "since": date(found.unix_s),
            "key": record["key"] and f"{record['key']} {record['name'] or ''}".rstrip(),
            "prompt": None if tokens is None else f"about {tokens} tokens",
            "workers": ", ".join(found.workers),
        }
    )
    for lines in (*map(end_in_words, ends), last):
        sys.stdout.writelines(f"{printable(line)}\n" for line in ["", *lines] if lines)


@app.command()
def replay(letter: LetterId) -> None:
    """Ask for one again, as a background job of its key; it is no dead letter any more."""
    say(f"it is the job {replay_letter(read_config(), _find(letter))} of its key now")


@app.command()
def drop(letter: LetterId) -> None:
    """Forget one, with its prompt."""
    found = _find(letter)
    drop_letter(read_config(), found)
    say(f"{found.id} is forgotten")


def _find(letter_id: str) -> DeadLetter:
    found = [each for each in dead_letters(read_config()) if letter_id in (each.id, each.entry)]
    if not found:
        raise UserError(
            f"no dead letter `{printable(letter_id)}`", "`./ew dead list` shows those there are"
        )
    return found[0]


def _record(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter for programs; a prompt is no part of it."""
    job = letter.job
    key = KeyFile().records().get(job.key_id) if job else None
    return {
        "id": letter.id,
        "model": letter.model,
        "reason": letter.reason,
        "since_unix_s": letter.unix_s,
        "workers": list(letter.workers),
        "key": job and job.key_id,
        "name": key and key.name,
        "prompt_tokens": job and prompt_tokens(job),
        "max_tokens": job and job.sampling.max_tokens,
    }
