"""How options and arguments are read and shown: Typer's, with values and words of our own.

Typer has pydantic convert the values: that takes longer to import than all the rest of
`ew status`, and shows people its types and messages. Here a value is converted by its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

from typer._click.shell_completion import CompletionItem
from typer.core import TyperArgument, TyperOption

from orchestrator.errors import UserError

_NUMBERS: Final = (int, float)


class PlainParameter:
    """The behaviour that options and arguments share. Mixed into Typer's class for either."""

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
        """Return the value of what was typed. Raises `UserError`."""
        if self.multiple or self.nargs == -1:
            value = [self._convert(ctx, each) for each in value or ()]
        elif value is not None:
            value = self._convert(ctx, value)
        if self.required and value in (None, []) and not ctx.resilient_parsing:
            raise UserError(f"{self.label} is missing", see_help(ctx))
        return value if self.callback is None else self.callback(ctx, self, value)

    def get_help_record(self, ctx: Any) -> tuple[str, str] | None:
        """Return the two columns of the help."""
        if self.hidden:
            return None
        remarks = "; ".join(filter(None, (self._default_text(), self._bounds_text())))
        text = self.help or ""
        return self._heading(), f"{text}  [{remarks}]".strip() if remarks else text

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Return its values that begin so."""
        from orchestrator.cli.parsing.completion import values_of

        values = values_of(ctx.command.name or "", self.name)
        return [CompletionItem(each) for each in values if each.startswith(incomplete)]

    @property
    def label(self) -> str:
        """Its name in messages."""
        raise NotImplementedError

    @property
    def value_name(self) -> str:
        """The placeholder for its value in the help."""
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


def see_help(ctx: Any) -> str:
    return f"see `{ctx.command_path} --help`"


def _number(kind: type, text: str) -> float | None:
    try:
        number: float = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
