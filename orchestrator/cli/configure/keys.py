"""`ew keys`."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Annotated, Final

import typer

from contract.bus.turns import CLASSES
from contract.keys import KeyRecord, NewKey, find_anonymous
from orchestrator.cli.commands import plain_app
from orchestrator.cli.configure.key_table import public, table
from orchestrator.cli.configure.keys_meant import keys_meant, listed_keys, tell_other_hosts
from orchestrator.config.key_file import KeyFile
from orchestrator.config.key_limits import group_problem, limit_words, with_limits
from orchestrator.config.named_host import named_host, require_this_host
from orchestrator.errors import UserError
from orchestrator.terminal.durations import seconds_of
from orchestrator.terminal.speech import printable, say, warn

_OWNER: Final = typer.Option(help="Who answers for it, as a person or a team.", metavar="NAME")
_NOTE: Final = typer.Option(help="A line to remember, such as what it is for.", metavar="TEXT")
app = plain_app(help="Add, list, revoke and rotate API keys.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, for you to remember.")] = "",
    called: Annotated[
        str, typer.Option("--name", help="The same, as an option.", metavar="NAME")
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(help="Models that it opens, as a glob; may be given several times."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends by itself: 12h, 30d, 8w.", metavar="TIME")
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="It reads /metrics, and opens no model but those named."),
    ] = False,
    admin: Annotated[
        bool,
        typer.Option(
            "--admin", help="It may administer ew over HTTP, and in the console; and open models."
        ),
    ] = False,
    weight: Annotated[
        float,
        typer.Option(min=0.01, max=100, help="Its share of a model, beside other keys that wait."),
    ] = 1.0,
    priority: Annotated[
        str,
        typer.Option(
            help="The class of its requests: interactive, normal or batch. They may ask for a "
            "later one.",
            metavar="CLASS",
        ),
    ] = "normal",
    lowest_priority: Annotated[
        int, typer.Option(min=-100, max=0, help="The lowest `priority` that its requests may ask.")
    ] = 0,
    group: Annotated[
        str, typer.Option(help="The group whose limits it shares.", metavar="NAME")
    ] = "",
    owner: Annotated[str, _OWNER] = "",
    note: Annotated[str, _NOTE] = "",
) -> None:
    """Make a key and print it, once."""
    if name and called:
        raise UserError(f"two names: `{printable(name)}` and `{printable(called)}`", "give one")
    if priority not in CLASSES:
        raise UserError(f"no class `{printable(priority)}`", f"one of {', '.join(CLASSES)}")
    ends = None if expires is None else time.time() + _lifetime_s(expires)
    models = tuple(model or ([] if metrics else ["*"]))
    rights = {"weight": weight, "priority": priority, "lowest_priority": lowest_priority}
    scopes = {"metrics": metrics, "admin": admin}
    told = {"group": group, "owner": owner, "note": note}
    keys = keys_meant()
    keys.require_source()
    _print_new(keys.add(name or called, models, ends, **rights, **scopes, **told))
    _warn_of(group)
    tell_other_hosts()


@app.command()
def limit(
    key: Annotated[str, typer.Argument(help="Its id or its name.")],
    bounds: Annotated[
        list[str] | None,
        typer.Argument(
            help="Limits, as in requests_per_minute=60; NAME=none lifts one that the "
            "configuration sets, NAME= leaves it to the configuration.",
            metavar="NAME=NUMBER",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="The group whose limits it shares; empty for none.", metavar="NAME"),
    ] = None,
) -> None:
    """Set what a key may ask for, or show it. Running gateways follow within a second."""
    keys = keys_meant()
    if not bounds and group is None:
        sys.stdout.write(f"{_limits_of(keys.find(key))}\n")
        return
    changed = keys.change(key, partial(with_limits, bounds=bounds or [], group=group))
    say(f"key {changed.id}: {_limits_of(changed)}")
    _warn_of(group)
    tell_other_hosts()


@app.command()
def describe(
    key: Annotated[str, typer.Argument(help="Its id or its name.")],
    name: Annotated[str | None, typer.Option(help="Another name.", metavar="NAME")] = None,
    owner: Annotated[str | None, _OWNER] = None,
    note: Annotated[str | None, _NOTE] = None,
) -> None:
    """Change what is said of a key: its name, its owner, a note. Nothing that it may do changes."""
    told = {"name": name, "owner": owner, "note": note}
    given = {field: words for field, words in told.items() if words is not None}
    if not given:
        raise UserError("nothing to change", "give --name, --owner or --note")
    say(f"key {keys_meant().describe(key, **given).id}: {', '.join(sorted(given))} changed")
    tell_other_hosts()


@app.command(name="list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the keys; what is secret of them is kept nowhere."""
    found, uses, hosts, remark = listed_keys()
    records = sorted(found.values(), key=lambda record: record.created_unix_s)
    if as_json:
        keys = [public(record, uses, hosts.get(record.id)) for record in records]
        sys.stdout.write(json.dumps(keys, indent=2) + "\n")
    elif records:
        sys.stdout.write("\n".join(table(records, uses)) + "\n")
        if remark:
            say(remark)
    else:
        say("no keys; `./ew keys add` makes one")


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="Its id or its name.")]) -> None:
    """End a key and its open answers: here within a second, on hosts that share keys within 3."""
    record = keys_meant().revoke(key)
    say(f"key {record.id} is revoked")
    tell_other_hosts()


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(help="Its id or its name.")],
    overlap: Annotated[
        str, typer.Option(help="How long the old key still works: 0s, 30m, 24h.", metavar="TIME")
    ] = "24h",
) -> None:
    """Make a new key with the same rights; the old one ends a little later."""
    _print_new(keys_meant().rotate(key, seconds_of(overlap)))
    say(f"the old key works for another {overlap}")
    tell_other_hosts()


@app.command()
def anonymous(
    key: Annotated[str, typer.Argument(help="The key's id or its name.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Every request needs a key again.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also for requests from other hosts.")
    ] = False,
) -> None:
    """Let requests without a key in as if they had sent this one.

    Only those from this host, unless it is forced. They reach the models of that key, within its
    limits. Without an argument, say which key it is.
    """
    require_this_host("keys anonymous")
    keys = KeyFile()
    if off:
        is_news = keys.close_to_all()
        say("every request needs a key" + ("" if is_news else ", as before"))
        tell_other_hosts()
    elif key:
        record = keys.open_to_all(key, "all" if force else "local")
        say(_anonymous(record))
        tell_other_hosts()
    else:
        found = find_anonymous(keys.all(), time.time())
        say(_anonymous(found) if found else "every request needs a key")


@app.command()
def share() -> None:
    """Make the keys of this host those of all hosts, whoever shared some before.

    `keys.source` must name this host.
    """
    require_this_host("keys share")
    # Slow to import: a client of Redis, and the configuration.
    from orchestrator.client.records.key_sharing import share_keys

    before = share_keys()
    others = f" instead of the {len(before.records)} of `{before.host}`" if before else ""
    say(f"all hosts have the {len(KeyFile().records())} keys of this one{others}")


def _anonymous(record: KeyRecord) -> str:
    where = "from anywhere" if record.anonymous == "all" else "from this host"
    models = " ".join(record.models) or "no models"
    return f"requests without a key, {where}, have the key {record.id}: {printable(models)}"


def _lifetime_s(expires: str) -> float:
    seconds = seconds_of(expires)
    if not seconds:
        raise UserError(f"a key that expires after {expires} opens nothing", "give it some time")
    return seconds


def _warn_of(group: str | None) -> None:
    """Say so if a group has no limits here; the configuration of another host is not known."""
    if group and not named_host() and (problem := group_problem(group)):
        warn(problem)


def _print_new(new: NewKey) -> None:
    say(f"key {new.record.id}, shown only now:")
    sys.stdout.write(f"{new.text}\n")


def _limits_of(record: KeyRecord) -> str:
    return ", ".join(limit_words(record)) or "no limits of its own"
