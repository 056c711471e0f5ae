"""The parsers of a model that the installed release of its library has."""

from __future__ import annotations

import logging
from collections.abc import Collection

from contract.config.recipes import ChosenParsers

log = logging.getLogger(__name__)


def among(
    chosen: ChosenParsers, tools: Collection[str], reasoners: Collection[str], library: str
) -> ChosenParsers:
    """Return those that the entry names, and of those that the checkpoint asks for what there is: a
    release may have no parser of that name yet, or none that ew can use."""
    if chosen.tool is not None and not chosen.tool_of_entry and chosen.tool not in tools:
        log.warning("this %s has no tool parser `%s`; calls are not read", library, chosen.tool)
        chosen = chosen._replace(tool=None)
    is_unknown = chosen.reasoning is not None and chosen.reasoning not in reasoners
    if is_unknown and not chosen.reasoning_of_entry:
        name = chosen.reasoning
        log.warning("this %s has no reasoning parser `%s`; all is answer", library, name)
        chosen = chosen._replace(reasoning=None)
    return chosen
