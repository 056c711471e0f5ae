"""The parsers of a model that this release of vLLM has."""

from __future__ import annotations

from functools import lru_cache

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers
from workers.engines.shared.parsing.known import ParserNames, installed_parsers


def known_parsers(model: ModelConfig) -> ChosenParsers:
    """Return the parsers of a model that this vLLM has."""
    return installed_parsers(model, "vLLM", _names)


@lru_cache
def _names() -> ParserNames:
    """Return those that ew can use: none where parsers have an earlier form (0.26)."""
    from inspect import signature

    try:
        from vllm.parser import ParserManager
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager
    except ImportError:
        return ParserNames()
    if "tokenizer" not in signature(ParserManager.get_parser).parameters:
        return ParserNames()
    return ParserNames(
        frozenset(ToolParserManager.list_registered()),
        frozenset(ReasoningParserManager.list_registered()),
    )
