"""config.json of a compiled TensorRT engine, a plan, as frozen types: the supervisor works out its
memory from them, and a worker what it can serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

#: Above any model's figures, and low enough that arithmetic on them stays exact.
_LARGEST: Final = 2**48
#: The values that TensorRT-LLM builds with where a plan does not say.
_MAX_BATCH_SIZE: Final = 2048
_MAX_NUM_TOKENS: Final = 8192
_CONTEXT: Final = 2048

Whole = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]


class SchemeJson(msgspec.Struct, frozen=True):
    """How something is quantised, in the form of compressed-tensors."""

    num_bits: Whole | None = None


class QuantizationJson(msgspec.Struct, frozen=True):
    """`kv_cache_scheme` is the newer form of `kv_cache_quant_algo`."""

    quant_method: str | None = None
    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None
    kv_cache_scheme: SchemeJson | None = None


class MappingJson(msgspec.Struct, frozen=True):
    world_size: Whole | None = None
    tp_size: Whole | None = None
    pp_size: Whole | None = None


class PlanModelJson(msgspec.Struct, frozen=True):
    """`pretrained_config` of a compiled TensorRT engine."""

    num_hidden_layers: Positive
    hidden_size: Positive
    num_attention_heads: Positive
    vocab_size: Positive
    num_key_value_heads: Whole | None = None
    head_size: Whole | None = None
    intermediate_size: Whole | None = None
    max_position_embeddings: Whole | None = None
    dtype: str | None = None
    quantization: QuantizationJson | None = None
    mapping: MappingJson | None = None


class PluginJson(msgspec.Struct, frozen=True):
    #: A type, or nothing; releases have had true and false, too.
    lora_plugin: Any = None


class PlanBuildJson(msgspec.Struct, frozen=True):
    """`build_config` of a compiled TensorRT engine."""

    max_batch_size: Whole | None = None
    max_input_len: Whole | None = None
    max_num_tokens: Whole | None = None
    max_beam_width: Whole | None = None
    max_seq_len: Whole | None = None
    plugin_config: PluginJson | None = None


class PlanJson(msgspec.Struct, frozen=True):
    """config.json of a compiled TensorRT engine."""

    pretrained_config: PlanModelJson
    build_config: PlanBuildJson


class PlanLimits(NamedTuple):
    """The limits that were fixed when a plan was built."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    max_beam_width: int
    has_lora: bool

    @property
    def longest_prompt(self) -> int:
        """A prompt is computed in one step."""
        return min(self.max_input_len, self.max_num_tokens)


def is_plan(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is that of a plan."""
    return "pretrained_config" in config and "build_config" in config


def limits_of(build: PlanBuildJson, own_context: int | None = None) -> PlanLimits:
    """Return the limits of a plan, with TensorRT-LLM's own where it does not say. `own_context`
    is what the model was made for, in tokens."""
    longest = build.max_seq_len or own_context or _CONTEXT
    plugins = build.plugin_config
    return PlanLimits(
        max_batch_size=build.max_batch_size or _MAX_BATCH_SIZE,
        max_input_len=build.max_input_len or longest,
        max_seq_len=longest,
        max_num_tokens=build.max_num_tokens or _MAX_NUM_TOKENS,
        max_beam_width=build.max_beam_width or 1,
        has_lora=bool(plugins and plugins.lora_plugin),
    )
