"""The `ew` command line: one file per command, imported when it is called for.

Exit codes: 0 done, 1 something that the user can fix, 2 a defect of ew, 130 Ctrl-C.
Data goes to stdout, everything said about it to stderr.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from contract.paths import config_path, logs_dir, state_dir
from orchestrator.errors import UserError
from orchestrator.terminal import complain

#: Each command is the function, or the `app`, of that name in the module of that name (with `_`
#: for `-`); what is said here is the first line of its docstring.
COMMANDS: Final = {
    "quickstart": "From nothing to a streamed answer: set up, start, ask.",
    "setup": "Make the environment that an engine runs in.",
    "start": "Start models, and what they need.",
    "stop": "Stop everything, or one model.",
    "status": "Show what runs.",
    "logs": "Show what the processes wrote.",
    "models": "List the configured models.",
    "chat": "Talk with a model.",
    "keys": "Add, list, revoke and rotate API keys.",
    "config": "Check the configuration, or print its schema.",
    "convert-trt": "Build a TensorRT-LLM plan of a checkpoint.",
    "load": "Load a model now, instead of at its first request.",
    "unload": "Unload a model, until it is asked for again.",
    "pin": "Never unload a model to make room for another, nor because it is idle.",
    "estimate": "Show what models need of the GPUs, and where they would go.",
    "env": "List and remove engine environments.",
    "doctor": "Look for what is wrong on this host.",
    "test": "Run the test suite.",
}
_PLACES: Final = {"EW_STATE_DIR": state_dir, "EW_CONFIG": config_path}


class QuickHelp:
    """A help option that is false, rather than unset, when it is not given. For what is unset,
    typer imports pydantic, which takes longer than all the rest of `ew status`."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.default = False
        return option


class QuickCommand(QuickHelp, TyperCommand):
    """One command."""


class Commands(QuickHelp, TyperGroup):
    """All commands by name; only the one that is called is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`./ew --help` lists the commands"
        raise UserError(f"no command `{name}`", hint)


def load_command(name: str) -> Any:
    """Import one command. Its module has a function of that name, or an `app` of several."""
    identifier = name.replace("-", "_")
    module = import_module(f"orchestrator.cli.{identifier}")
    app = getattr(module, "app", None)
    if app is None:
        app = plain_app()
        app.command(name, cls=QuickCommand)(getattr(module, identifier))
    command = typer.main.get_command(app)
    command.name = name
    return command


def plain_app(**options: Any) -> typer.Typer:
    """A Typer app whose help is plain text, which also keeps rich from being imported."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, **options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name. Answers the exit code."""
    for name, place in _PLACES.items():
        if name in os.environ:
            # Children run in other directories.
            os.environ[name] = str(place().absolute())
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(arguments or ["--help"])
    except UserError as error:
        complain(error.message, error.hint)
        return 1
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        complain(error.format_message(), f"see `{context.command_path} --help`" if context else "")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        complain(
            f"a defect of ew: {type(error).__name__}: {error}", f"see {_keep_trace(arguments)}"
        )
        return 2


def _run(arguments: list[str]) -> int:
    app = plain_app(cls=Commands, no_args_is_help=True)
    # Typer makes a group only of apps with a callback, or with several commands of their own.
    app.callback()(_ew)
    code = typer.main.get_command(app).main(arguments, prog_name="./ew", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _ew() -> None:
    """One gateway in front of several LLM engines, with a durable queue and token stream."""


def _keep_trace(arguments: list[str]) -> str:
    path = logs_dir() / "ew.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        log.write(f"./ew {' '.join(arguments[:1])}\n{traceback.format_exc()}\n")
    return str(path)
