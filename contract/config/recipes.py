"""Which parsers of an engine's library read a checkpoint's tool calls and reasoning, by the name of
the checkpoint. Each library has its own parsers, and names of its own for them.

vLLM: from its documentation (docs/features/tool_calling.md and reasoning_outputs.md of 0.32), the
checkpoints that it names and that need no other chat template than their own. SGLang: from its
documentation (docs/advanced_features/tool_parser and separate_reasoning) and what its
`template_detection.py` takes for `auto` (0.5.23). TensorRT-LLM: what its `auto` takes for their
kind of model (`MODEL_TYPE_TO_TOOL_PARSER`, `MODEL_TYPE_TO_REASONING_PARSER` of 1.3).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, NamedTuple, TypeAlias

from contract.config.model import ModelConfig
from contract.engines import declaration_of

#: In a model's entry: no parser, whatever the checkpoint is.
NO_PARSER: Final = "none"


class ChosenParsers(NamedTuple):
    """The library's names for them; `tool_of_entry` and `reasoning_of_entry`: the entry says so."""

    tool: str | None = None
    reasoning: str | None = None
    tool_of_entry: bool = False
    reasoning_of_entry: bool = False


Recipe: TypeAlias = tuple[str, str | None, str | None]
_VLLM: Final[tuple[Recipe, ...]] = (
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
_SGLANG: Final[tuple[Recipe, ...]] = (
    # Its markup is that of Qwen 2.5.
    ("demo-model", "qwen", "deepseek-v3"),
    ("hermes-2-pro-*", "hermes", None),
    ("hermes-3-*", "hermes", None),
    ("mistral-7b-instruct-v0.3*", "mistral", None),
    ("mistral-nemo-instruct-*", "mistral", None),
    ("llama-3.[123]-*instruct*", "llama3", None),
    ("meta-llama-3.1-*instruct*", "llama3", None),
    ("qwen2.5-*instruct*", "qwen", None),
    ("qwq-32b*", "qwen", "deepseek-r1"),
    ("qwen3-coder-*", "qwen3_coder", None),
    ("qwen3-*instruct*", "qwen", None),
    ("qwen3-*-thinking*", "qwen", "qwen3-thinking"),
    ("qwen3-[0-9]*", "qwen", "qwen3"),
    ("deepseek-r1-distill-*", None, "deepseek-r1"),
    ("deepseek-r1*", "deepseekv3", "deepseek-r1"),
    ("deepseek-v3.2-exp*", "deepseekv31", "deepseek-v3"),
    ("deepseek-v3.2*", "deepseekv32", "deepseek-v3"),
    ("deepseek-v3.1*", "deepseekv31", "deepseek-v3"),
    ("gpt-oss-*", "gpt-oss", "gpt-oss"),
    ("kimi-k2-instruct*", "kimi_k2", None),
    ("kimi-k2-thinking*", "kimi_k2", "kimi_k2"),
    ("glm-4.[56]", "glm45", "glm45"),
    ("glm-4.5-air*", "glm45", "glm45"),
    ("glm-4.[56]-fp8", "glm45", "glm45"),
    ("glm-4.7*", "glm47", "glm45"),
    ("step3*", "step3", "step3"),
)
_TENSORRT: Final[tuple[Recipe, ...]] = (
    ("demo-model", "qwen3", "qwen3"),
    ("qwen2.5-*instruct*", "qwen3", None),
    ("qwen3-coder-*", "qwen3_coder", None),
    ("qwen3-*instruct*", "qwen3", None),
    # These begin within a thought; their own names for that are not for all kinds of Qwen.
    ("qwen3-*-thinking*", "qwen3", "deepseek-r1"),
    ("qwen3-[0-9]*", "qwen3", "qwen3"),
    ("deepseek-r1-distill-*", None, "deepseek-r1"),
    ("deepseek-r1*", "deepseek_v3", "deepseek-r1"),
    ("deepseek-v3.1*", "deepseek_v31", None),
    ("deepseek-v3.2*", "deepseek_v32", None),
    ("deepseek-v3*", "deepseek_v3", None),
    ("kimi-k2-*", "kimi_k2", None),
    ("glm-4.[567]*", "glm47", None),
)
#: By library. Names in lower case, of which the first that fits counts; the parsers of calls, of
#: reasoning.
RECIPES: Final[dict[str, tuple[Recipe, ...]]] = {
    "vllm": _VLLM,
    "sglang": _SGLANG,
    "tensorrt_llm": _TENSORRT,
}


def recipe_for(model_path: str, library: str = "vllm") -> ChosenParsers:
    """The parsers for a repository, or for a directory that is called as one is."""
    for part in reversed(model_path.lower().split("/")):
        for name, tool, reasoning in RECIPES.get(library, ()):
            if fnmatchcase(part, name):
                return ChosenParsers(tool, reasoning)
    return ChosenParsers()


def recipes_for(model_path: str) -> dict[str, ChosenParsers]:
    """The same by library, for those that have any."""
    found = {library: recipe_for(model_path, library) for library in RECIPES}
    return {library: chosen for library, chosen in found.items() if any(chosen)}


def parsers_of(model: ModelConfig) -> ChosenParsers:
    """Return the settings of its entry, or of the checkpoint's recipe where it gives none."""
    recipe = recipe_for(model.model_path, declaration_of(model.engine).library)
    tool, reasoning = model.tool_parser, model.reasoning_parser
    return ChosenParsers(
        _named(recipe.tool if tool is None else tool),
        _named(recipe.reasoning if reasoning is None else reasoning),
        tool is not None,
        reasoning is not None,
    )


def _named(parser: str | None) -> str | None:
    return None if parser == NO_PARSER else parser
