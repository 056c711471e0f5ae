"""How commands are read and shown: Typer's, with values and words of our own.

Typer has pydantic convert the values: that takes longer to import than all the rest of
`ew status`, and shows people its types and messages. Here a value is converted by its type.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import typer
from typer._click.shell_completion import CompletionItem
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from contract.paths import as_called
from orchestrator.cli.parsing.guess import guess_command
from orchestrator.errors import UserError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_NUMBERS: Final = (int, float)


class PlainParameter:
    """What options and arguments have in common. Mixed into Typer's class for either."""

    #: Of Typer's class.
    name: str
    help: str | None
    metavar: str | None
    default: Any
    show_default: bool | str
    required: bool
    hidden: bool
    multiple: bool
    nargs: int
    min: float | None
    max: float | None
    callback: Callable[..., Any] | None
    type_descriptor: Any

    def process_value(self, ctx: Any, value: Any) -> Any:
        """The value of what was typed. Raises `UserError`."""
        if self.multiple or self.nargs == -1:
            value = [self._convert(ctx, each) for each in value or ()]
        elif value is not None:
            value = self._convert(ctx, value)
        if self.required and value in (None, []) and not ctx.resilient_parsing:
            raise UserError(f"{self.label} is missing", see_help(ctx))
        return value if self.callback is None else self.callback(ctx, self, value)

    def get_help_record(self, ctx: Any) -> tuple[str, str] | None:
        """The two columns of the help."""
        if self.hidden:
            return None
        remarks = "; ".join(filter(None, (self._default_text(), self._bounds_text())))
        text = self.help or ""
        return self._heading(), f"{text}  [{remarks}]".strip() if remarks else text

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Its values that begin so."""
        from orchestrator.cli.parsing.completion import values_of

        values = values_of(ctx.command.name or "", self.name)
        return [CompletionItem(each) for each in values if each.startswith(incomplete)]

    @property
    def label(self) -> str:
        """What messages call it."""
        raise NotImplementedError

    @property
    def value_name(self) -> str:
        """What stands for its value in the help."""
        raise NotImplementedError

    def _heading(self) -> str:
        raise NotImplementedError

    @property
    def _type(self) -> Any:
        annotation = self.type_descriptor.annotation
        return get_args(annotation)[0] if self.multiple or self.nargs == -1 else annotation

    def _convert(self, ctx: Any, value: Any) -> Any:
        if not isinstance(value, str) or self._type is str:
            return value
        if self._type not in _NUMBERS:
            return self._type(value)
        number = _number(self._type, value)
        if number is None or not self._is_within(number):
            what = "a whole number" if self._type is int else "a number"
            bounds = self._bounds_text()
            wanted = f"{what} {bounds}" if bounds else what
            raise UserError(f"{self.label}: `{value}` is not {wanted}", see_help(ctx))
        return number

    def _is_within(self, number: float) -> bool:
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)

    def _bounds_text(self) -> str:
        if self.min is None and self.max is None:
            return ""
        if self.max is None:
            return f"from {self.min:g} on"
        return f"up to {self.max:g}" if self.min is None else f"from {self.min:g} to {self.max:g}"

    def _default_text(self) -> str:
        is_told = self.show_default and self._type is not bool and self.default not in (None, "")
        return f"default: {self.default}" if is_told else ""


class PlainOption(PlainParameter, TyperOption):
    """An option: `--port PORT`."""

    @property
    def label(self) -> str:
        return f"`{self.opts[0]}`"

    @property
    def value_name(self) -> str:
        if self.metavar:
            return self.metavar
        known = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
        return known.get(self._type) or self.name.rpartition("_")[2].upper()

    def _heading(self) -> str:
        names = ", ".join(sorted(self.opts, key=len))
        return names if self.is_flag else f"{names} {self.value_name}"


class PlainArgument(PlainParameter, TyperArgument):
    """An argument: `MODEL`, `[MODEL]`, `[MODEL]...`."""

    @property
    def label(self) -> str:
        return self.value_name

    @property
    def value_name(self) -> str:
        return (self.metavar or self.name.upper()).strip("[].")

    def get_usage_pieces(self, ctx: Any) -> list[str]:
        name = self.value_name if self.required else f"[{self.value_name}]"
        return [f"{name}..." if self.nargs == -1 else name]

    def _heading(self) -> str:
        return self.value_name


_PLAIN: Final[dict[type, type]] = {TyperOption: PlainOption, TyperArgument: PlainArgument}


def plain(parameter: Any) -> Any:
    """The same parameter, read and shown by the classes above: Typer makes its own only."""
    kind = _PLAIN.get(type(parameter))
    if kind is None:
        return parameter
    ours: Any = object.__new__(kind)
    vars(ours).update(vars(parameter))
    return ours


class PlainHelp:
    """What commands and groups have in common."""

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
        # What is too much is told in our words.
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
        """What each command does, in a line."""
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
        """Whether there is such an option, or a command of such words, here."""
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
    """What is wrong with a command line, in our words."""
    option = getattr(error, "option_name", None)
    if option and hasattr(error, "possibilities"):
        near = difflib.get_close_matches(option, error.possibilities or (), n=1, cutoff=0)
        hint = f"did you mean `{near[0]}`?" if near else see_help(ctx)
        return UserError(f"`{ctx.command_path}` has no option `{option}`", hint)
    message = error.format_message().rstrip(".").replace("'", "`")
    return UserError(f"{message[:1].lower()}{message[1:]}", see_help(ctx))


def see_help(ctx: Any) -> str:
    return f"see `{ctx.command_path} --help`"


def _number(kind: type, text: str) -> float | None:
    try:
        number: float = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
