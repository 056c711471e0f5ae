"""The parsers of a model that this release of vLLM has."""

from __future__ import annotations

import logging
from functools import lru_cache

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers, parsers_of

log = logging.getLogger(__name__)


def known_parsers(model: ModelConfig) -> ChosenParsers:
    """Those that the entry names, and of those that the checkpoint asks for what there is: a
    release may have no parser of that name yet, or none that ew can use."""
    chosen = parsers_of(model)
    tools, reasoners = _names()
    if chosen.tool is not None and not chosen.tool_of_entry and chosen.tool not in tools:
        log.warning("this vLLM has no tool parser `%s`; calls are not read", chosen.tool)
        chosen = chosen._replace(tool=None)
    is_unknown = chosen.reasoning is not None and chosen.reasoning not in reasoners
    if is_unknown and not chosen.reasoning_of_entry:
        log.warning("this vLLM has no reasoning parser `%s`; all is answer", chosen.reasoning)
        chosen = chosen._replace(reasoning=None)
    return chosen


@lru_cache
def _names() -> tuple[frozenset[str], frozenset[str]]:
    """Of tool parsers and of reasoning parsers. None where parsers have an earlier form (0.26)."""
    from inspect import signature

    try:
        from vllm.parser import ParserManager
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager
    except ImportError:
        return frozenset(), frozenset()
    if "tokenizer" not in signature(ParserManager.get_parser).parameters:
        return frozenset(), frozenset()
    return (
        frozenset(ToolParserManager.list_registered()),
        frozenset(ReasoningParserManager.list_registered()),
    )
