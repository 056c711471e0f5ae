"""The `ew` command line: one file per command, imported when it is called for.

Exit codes: 0 done, 1 something that the user can fix, 2 a defect of ew, 130 Ctrl-C.
Data goes to stdout, everything said about it to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.paths import COMMAND, config_path, logs_dir, project_dir, state_dir
from orchestrator.cli.commands import COMMANDS, load_command, plain_app
from orchestrator.cli.parsing.grammar import Group
from orchestrator.config.named_host import CA_VARIABLE, VARIABLE, named_host, require_possible
from orchestrator.config.project import require_project
from orchestrator.errors import UserError
from orchestrator.system import os_errors
from orchestrator.system.ownership import require_own_state
from orchestrator.terminal.speech import complain, say
from orchestrator.terminal.streams import settle_streams

#: Commands that tell whose the state is, or have none.
_UNTRUSTING: Final = ("doctor", "test")
_PLACES: Final = {"EW_HOME": project_dir, "EW_STATE_DIR": state_dir, "EW_CONFIG": config_path}


class Commands(Group):
    """All commands by name; only the one that is called is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        found = super().resolve_command(ctx, args)
        if not ctx.resilient_parsing and not set(args) & set(ctx.help_option_names):
            require_possible(args[0])
            if named_host():
                return found
            require_project(args[0])
            if args[0] not in _UNTRUSTING:
                require_own_state()
        return found

    def summaries(self) -> dict[str, str]:
        return {name: command.summary for name, command in COMMANDS.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    settle_streams()
    try:
        _settle_places()
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        complain(error.message, error.hint)
        return 1
    except typer.TyperException as error:
        complain(error.format_message(), "`./ew --help` lists the commands")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        return _leave_unread()
    except OSError as error:
        _drop_unwritable_output()
        mishap = os_errors.explain(error)
        if mishap is None:
            return _own_up(error, arguments)
        complain(mishap.message, mishap.hint)
        return 1
    except Exception as error:
        return _own_up(error, arguments)


def _settle_places() -> None:
    """Children run in other directories."""
    for name, place in _PLACES.items():
        if name in os.environ:
            os.environ[name] = str(place().absolute())


def _run(arguments: list[str]) -> int:
    app = plain_app(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
    # Typer makes a group only of apps with a callback, or with several commands of their own.
    app.callback()(_ew)
    command = typer.main.get_command(app)
    if "_EW_COMPLETE" in os.environ:
        return _complete(command, arguments)
    code = command.main(arguments, prog_name=COMMAND, standalone_mode=False)
    return code if isinstance(code, int) else 0


def _complete(command: Any, arguments: list[str]) -> int:
    from orchestrator.cli.parsing import completion

    # Whatever is wrong, a shell must not be told in the middle of a line.
    with contextlib.suppress(Exception):
        return completion.complete(command, arguments)
    return 1


def _print_version(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from orchestrator.system.version import version

        typer.echo(f"ew {version()}")
        raise typer.Exit


def _show_completion(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from orchestrator.cli.parsing import completion

        completion.show()
        raise typer.Exit


def _install_completion(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from orchestrator.cli.parsing import completion

        say(completion.install())
        raise typer.Exit


def _choose_project(ctx: typer.Context, directory: Path | None) -> None:
    if directory is not None and not ctx.resilient_parsing:
        os.environ["EW_HOME"] = str(directory.expanduser().absolute())


def _choose_host(ctx: typer.Context, url: str | None) -> None:
    if url is not None and not ctx.resilient_parsing:
        os.environ[VARIABLE] = url


def _choose_authorities(ctx: typer.Context, file: Path | None) -> None:
    if file is not None and not ctx.resilient_parsing:
        os.environ[CA_VARIABLE] = str(file.expanduser())


def _ew(
    project: Annotated[
        Path | None,
        typer.Option(
            callback=_choose_project,
            is_eager=True,
            metavar="DIR",
            help="The directory whose models are meant: its configuration, state and logs. EW_HOME "
            "if not given.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            callback=_choose_host,
            is_eager=True,
            metavar="URL",
            help="The gateway of another host, for `status`, `models`, `logs`, `jobs`, `keys`, "
            "`load`, `unload` and `pin`. EW_HOST if not given; the key is that in EW_API_KEY, or "
            "in the file EW_API_KEY_FILE.",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            callback=_choose_authorities,
            is_eager=True,
            metavar="FILE",
            help="The authorities, in PEM, that the certificate of `--host` is checked by. "
            "EW_CA_FILE if not given, else the system's.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which ew."),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=_show_completion,
            is_eager=True,
            help="Print what makes bash, zsh or fish complete ew's commands.",
        ),
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="Make the shell that this is called from complete them.",
        ),
    ] = False,
) -> None:
    """One gateway in front of several LLM engines, with a durable queue and token stream."""


def _own_up(error: Exception, arguments: list[str]) -> int:
    complain(f"a defect of ew: {type(error).__name__}: {error}", _keep_trace(arguments))
    return 2


def _keep_trace(arguments: list[str]) -> str:
    """Write the trace of a defect into the logs; return the words that say where."""
    from contract.logs.rotation import open_privately

    path = logs_dir() / "ew.log"
    try:
        with open_privately(path) as log:
            log.write(f"{COMMAND} {' '.join(arguments[:1])}\n{traceback.format_exc()}\n".encode())
    except OSError as error:
        return f"its trace could not be kept: {error}"
    return f"see {path}"


def _leave_unread() -> int:
    """Return the exit code for a reader of our output that has left, as `head` does: no fault."""
    _drop_unwritable_output()
    return 0


def _drop_unwritable_output() -> None:
    """Drop output that could not be written, so that it does not fail again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
