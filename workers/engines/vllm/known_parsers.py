"""The parsers of a model that this release of vLLM has."""

from __future__ import annotations

from functools import lru_cache

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers, parsers_of
from workers.engines.shared.parsing.known import among


def known_parsers(model: ModelConfig) -> ChosenParsers:
    """Those that the entry names, and of those that the checkpoint asks for what there is: a
    release may have no parser of that name yet, or none that ew can use."""
    return among(parsers_of(model), *_names(), "vLLM")


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
