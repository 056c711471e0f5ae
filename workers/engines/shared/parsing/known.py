"""The parsers of a model that the installed release of its library has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers, parsers_of
from workers.engine import CannotServe

log = logging.getLogger(__name__)

#: The refusal of calls whose markup nothing reads.
NO_TOOL_PARSER: Final = (
    "this model's tool calls cannot be read: its entry names no `tool_parser`; "
    "`tool_choice` `required` or a named tool works without one"
)


class ParserNames(NamedTuple):
    """The names of the parsers that a release has: of tool calls, of reasoning."""

    tool: Collection[str] = ()
    reasoning: Collection[str] = ()


def installed_parsers(
    model: ModelConfig, library: str, names: Callable[[], ParserNames]
) -> ChosenParsers:
    """Return those that the entry names, and of those that the checkpoint asks for what there is: a
    release may have no parser of that name yet, or none that ew can use. `names` is asked only
    if there is a parser to look for."""
    chosen = parsers_of(model)
    if chosen.tool is None and chosen.reasoning is None:
        return chosen
    known = names()
    if not chosen.tool_of_entry and _is_missing(chosen.tool, known.tool):
        log.warning("this %s has no tool parser `%s`; calls are not read", library, chosen.tool)
        chosen = chosen._replace(tool=None)
    if not chosen.reasoning_of_entry and _is_missing(chosen.reasoning, known.reasoning):
        name = chosen.reasoning
        log.warning("this %s has no reasoning parser `%s`; all is answer", library, name)
        chosen = chosen._replace(reasoning=None)
    return chosen


def cannot_parse(error: Exception) -> CannotServe:
    """Return the refusal of a model whose parsers its library cannot make."""
    return CannotServe(f"`tool_parser`, `reasoning_parser`: {error}")


def _is_missing(name: str | None, known: Collection[str]) -> bool:
    return name is not None and name not in known
