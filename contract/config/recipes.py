"""Which of vLLM's parsers read a checkpoint's tool calls and reasoning, by the name of the
checkpoint.

From vLLM's documentation (docs/features/tool_calling.md and reasoning_outputs.md of 0.32): the
checkpoints that it names and that need no other chat template than their own.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from contract.config.model import ModelConfig

#: In a model's entry: no parser, whatever the checkpoint is.
NO_PARSER: Final = "none"


class ChosenParsers(NamedTuple):
    """vLLM's names for them; `tool_of_entry` and `reasoning_of_entry`: the entry says so."""

    tool: str | None = None
    reasoning: str | None = None
    tool_of_entry: bool = False
    reasoning_of_entry: bool = False


#: Names in lower case, of which the first that fits counts; the parsers of calls, of reasoning.
RECIPES: Final[tuple[tuple[str, str | None, str | None], ...]] = (
    # ew's own (deploy/demo-model).
    ("demo-model", "hermes", "deepseek_v3"),
    ("hermes-2-pro-*", "hermes", None),
    ("hermes-2-theta-*", "hermes", None),
    ("hermes-3-*", "hermes", None),
    ("mistral-7b-instruct-v0.3*", "mistral", None),
    ("llama-3.[12]-*instruct*", "llama3_json", None),
    ("meta-llama-3.1-*instruct*", "llama3_json", None),
    ("granite-4.0-*", "granite4", None),
    ("granite-3.1-*-instruct*", "granite", None),
    ("granite-3.2-*-instruct*", None, "granite"),
    ("ai21-jamba-1.5-*", "jamba", None),
    ("qwen2.5-*instruct*", "hermes", None),
    ("qwq-32b*", "hermes", "deepseek_r1"),
    ("qwen3-coder-*", "qwen3_xml", None),
    # It does not think, and its template says nothing of it.
    ("qwen3-[0-9]*-instruct-2507*", "hermes", None),
    ("qwen3-[0-9]*", "hermes", "qwen3"),
    ("deepseek-r1-distill-*", None, "deepseek_r1"),
    ("gpt-oss-*", "openai", "openai_gptoss"),
    ("kimi-k2-instruct*", "kimi_k2", None),
    ("hunyuan-a13b-instruct*", "hunyuan_a13b", "hunyuan_a13b"),
    ("longcat-flash-chat*", "longcat", None),
    ("glm-4.[56]", "glm45", "glm45"),
    ("glm-4.5-air*", "glm45", "glm45"),
    ("glm-4.[56]-fp8", "glm45", "glm45"),
    ("glm-4.7*", "glm47", "glm47"),
    ("olmo-3-*-instruct*", "olmo3", None),
    ("olmo-3-*-think*", "olmo3", "olmo3"),
    ("gigachat3-*", "gigachat3", None),
    ("ernie-4.5-21b-a3b-thinking*", "ernie45", "ernie45"),
)


def recipe_for(model_path: str) -> ChosenParsers:
    """The parsers for a repository, or for a directory that is called as one is."""
    for part in reversed(model_path.lower().split("/")):
        for name, tool, reasoning in RECIPES:
            if fnmatchcase(part, name):
                return ChosenParsers(tool, reasoning)
    return ChosenParsers()


def parsers_of(model: ModelConfig) -> ChosenParsers:
    """Return the settings of its entry, or of the checkpoint's recipe where it gives none."""
    recipe = recipe_for(model.model_path)
    tool, reasoning = model.tool_parser, model.reasoning_parser
    return ChosenParsers(
        _named(recipe.tool if tool is None else tool),
        _named(recipe.reasoning if reasoning is None else reasoning),
        tool is not None,
        reasoning is not None,
    )


def _named(parser: str | None) -> str | None:
    return None if parser == NO_PARSER else parser
