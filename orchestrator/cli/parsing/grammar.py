"""How commands and groups are read and shown: Typer's, with words of our own."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import typer
from typer._click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup

from contract.paths import as_called
from orchestrator.cli.parsing.guess import guess_command
from orchestrator.cli.parsing.parameters import plain, see_help
from orchestrator.errors import UserError

_Function = TypeVar("_Function", bound=Callable[..., Any])


class PlainHelp:
    """The behaviour that commands and groups share."""

    params: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [plain(each) for each in self.params]

    def get_help_option(self, ctx: Any) -> Any:
        # Typer keeps it there, and compares it.
        self._help_option = plain(super().get_help_option(ctx))  # type: ignore[misc]
        return self._help_option

    def get_help(self, ctx: Any) -> str:
        return as_called(super().get_help(ctx))  # type: ignore[misc]

    def parse_plainly(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's parsing. Raises `UserError`."""
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.TyperException as error:
            raise explain(error, ctx) from None
        return rest


class EwCommand(PlainHelp, TyperCommand):
    """One command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_strict = not ctx.allow_extra_args
        # Arguments that are too many get ew's own message.
        ctx.allow_extra_args = True
        rest = self.parse_plainly(ctx, args)
        if rest and is_strict and not ctx.resilient_parsing:
            takes = " ".join(self.collect_usage_pieces(ctx)[1:])
            wanted = f"; it takes {takes}" if takes else ""
            message = f"`{ctx.command_path}` has no use for `{' '.join(rest)}`{wanted}"
            raise UserError(message, see_help(ctx))
        return rest


class Group(PlainHelp, TyperGroup):
    """A command of commands. Alone, it does what it is there for, or shows its help."""

    def summaries(self) -> dict[str, str]:
        """Return what each command does, in a line."""
        return {
            name: (each.help or "").partition("\n")[0]
            for name, each in self.commands.items()
            if not each.hidden
        }

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=summary)
            for name, summary in self.summaries().items()
            if name.startswith(incomplete)
        ]
        return names or TyperCommand.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_alone = set(args) <= {"--"} and not self.invoke_without_command
        if is_alone and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        return self.parse_plainly(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or name in self.list_commands(ctx):
            return super().resolve_command(ctx, args)
        group = ctx.command_path.partition(" ")[2]
        nearest = guess_command(name, self.list_commands(ctx), partial(self._has, ctx))
        if nearest:
            hint = f"did you mean `{f'{group} {nearest}'.strip()}`?"
        else:
            hint = f"`{ctx.command_path} --help` lists the commands"
        raise UserError(f"no command `{f'{group} {name}'.strip()}`", hint)

    def _has(self, ctx: Any, words: str) -> bool:
        """Return whether there is such an option, or a command of such words, here."""
        first, _, rest = words.partition(" ")
        if words.startswith("--"):
            return any(words in each.opts for each in self.get_params(ctx))
        command = self.get_command(ctx, first)
        return isinstance(command, Group) and rest in command.list_commands(ctx)


class App(typer.Typer):
    """A Typer app of such commands. Its help is plain text, which keeps rich from being
    imported."""

    def __init__(self, **options: Any) -> None:
        options = {"cls": Group, **options}
        super().__init__(add_completion=False, rich_markup_mode=None, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[_Function], _Function]:
        return super().command(name, **{"cls": EwCommand, **options})


def explain(error: typer.TyperException, ctx: Any) -> UserError:
    """Return what is wrong with a command line, in our words."""
    option = getattr(error, "option_name", None)
    if option and hasattr(error, "possibilities"):
        near = difflib.get_close_matches(option, error.possibilities or (), n=1, cutoff=0)
        hint = f"did you mean `{near[0]}`?" if near else see_help(ctx)
        return UserError(f"`{ctx.command_path}` has no option `{option}`", hint)
    message = error.format_message().rstrip(".").replace("'", "`")
    return UserError(f"{message[:1].lower()}{message[1:]}", see_help(ctx))
