"""The JSON in a model's files as frozen types. All that is used of it is checked when it is read:
what cannot be used is an error that names the file and the key."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from contract.model_files.plan_json import PlanJson, Positive, QuantizationJson, Whole, is_plan
from orchestrator.errors import UserError
from orchestrator.estimate.families import completed, from_params
from orchestrator.estimate.layer_json import (
    BlockJson,
    LayerJson,
    LinearAttentionJson,
    OtherAttentionJson,
    RopeJson,
    SparseJson,
    SpeculatorsJson,
)
from orchestrator.estimate.vision_json import PerLayer

#: The file of Mistral's own format in place of config.json.
PARAMS: Final = "params.json"
#: The index of the largest checkpoints takes some 25 MB.
_LARGEST_FILE: Final = 128 * 2**20
#: A safetensors file starts with the length of its JSON header; the format allows no more.
_LARGEST_HEADER: Final = 100_000_000
#: Types that engines convert to the type that they run in.
FLOATING_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

Form = TypeVar("Form")


class ModelJson(msgspec.Struct, frozen=True):
    """config.json of a checkpoint. Families spell the same figure differently; models that also
    see or hear keep those of their language model in a section of its own."""

    text_config: ModelJson | None = None
    llm_config: ModelJson | None = None
    language_config: ModelJson | None = None
    transformer_layer_config: ModelJson | None = None
    speculators_config: SpeculatorsJson | None = None
    vision_config: Any = None
    audio_config: Any = None
    text_model_id: str | None = None
    audio_model_id: str | None = None
    spatial_merge_size: Positive | None = None
    stack_factor: Positive | None = None
    mm_tokens_per_image: Whole | None = None
    image_seq_length: Whole | None = None
    downsample_ratio: float | None = None
    architectures: list[str] | None = None
    model_type: str | None = None
    is_causal: bool | None = None
    use_bidirectional_attention: bool | str | None = None
    num_hidden_layers: Whole | None = None
    n_layer: Whole | None = None
    num_layers: Whole | None = None
    n_layers: Whole | None = None
    hidden_size: Whole | None = None
    n_embd: Whole | None = None
    d_model: Whole | None = None
    num_attention_heads: PerLayer = None
    n_head: PerLayer = None
    num_heads: PerLayer = None
    n_heads: PerLayer = None
    num_key_value_heads: PerLayer = None
    n_head_kv: PerLayer = None
    num_kv_heads: PerLayer = None
    multi_query: bool | None = None
    multi_query_attention: bool | None = None
    multi_query_group_num: Whole | None = None
    num_attention_groups: PerLayer = None
    num_global_key_value_heads: PerLayer = None
    swa_num_key_value_heads: PerLayer = None
    new_decoder_architecture: bool | None = None
    head_dim: PerLayer = None
    attention_head_dim: PerLayer = None
    kv_channels: PerLayer = None
    hidden_size_per_head: PerLayer = None
    v_head_dim: PerLayer = None
    global_head_dim: PerLayer = None
    swa_head_dim: PerLayer = None
    swa_v_head_dim: PerLayer = None
    intermediate_size: PerLayer = None
    ffn_hidden_size: PerLayer = None
    n_inner: PerLayer = None
    vocab_size: Whole | None = None
    padded_vocab_size: Whole | None = None
    max_position_embeddings: Whole | None = None
    n_positions: Whole | None = None
    seq_length: Whole | None = None
    max_seq_len: Whole | None = None
    max_seq_length: Whole | None = None
    max_sequence_length: Whole | None = None
    seq_len: Whole | None = None
    model_max_length: Whole | None = None
    original_max_position_embeddings: Whole | None = None
    rope_scaling: RopeJson | None = None
    rope_parameters: RopeJson | None = None
    layer_types: list[str] | None = None
    per_layer_config: dict[str, LayerJson] | None = None
    layers_block_type: list[str] | None = None
    hybrid_override_pattern: str | None = None
    full_attention_interval: Positive | None = None
    layer_group_size: Whole | None = None
    short_conv_kernel_size: Whole | None = None
    attn_layer_period: Positive | None = None
    attn_layer_offset: Whole | None = None
    attn_layer_indices: list[Whole] | None = None
    full_attn_idxs: list[Whole] | None = None
    hybrid_layer_pattern: list[Whole] | None = None
    attn_type_list: list[Whole] | None = None
    block_configs: list[BlockJson] | None = None
    attention_other_setting: OtherAttentionJson | None = None
    num_kv_shared_layers: Whole | None = None
    sliding_window: PerLayer = None
    use_sliding_window: bool | None = None
    sliding_window_pattern: Whole | list[str] | str | None = None
    max_window_layers: Whole | None = None
    attention_chunk_size: Whole | None = None
    no_rope_layers: list[Whole] | None = None
    sliding_window_size: Whole | None = None
    local_layer_ids: list[Whole] | None = None
    n_input_layers: Whole | None = None
    n_output_layers: Whole | None = None
    n_recurrent_loops: Positive | None = None
    recurrent_kv_cache_mode: str | None = None
    loop_num: Positive | None = None
    loop_window_size: Whole | None = None
    H_cycles: Positive | None = None
    L_cycles: Whole | None = None
    num_layers_per_stack: Whole | None = None
    compress_ratios: list[Whole] | None = None
    compress_rates: dict[str, Whole] | None = None
    kv_source_layer_ids: list[Whole] | None = None
    encoded_positions: Whole | None = None
    kv_lora_rank: Whole | None = None
    qk_rope_head_dim: Whole | None = None
    qk_nope_head_dim: Whole | None = None
    index_head_dim: Whole | None = None
    index_topk: Whole | None = None
    index_topk_freq: Positive | None = None
    index_topk_pattern: str | None = None
    index_skip_topk_offset: Whole | None = None
    indexer_types: list[str] | None = None
    sparse_attention_config: SparseJson | None = None
    mamba_num_heads: Whole | None = None
    mamba_n_heads: Whole | None = None
    n_mamba_heads: Whole | None = None
    mamba_head_dim: Whole | None = None
    mamba_headdim: Whole | None = None
    mamba_d_head: Whole | str | None = None
    mamba_d_ssm: Whole | None = None
    mamba_expand: Whole | None = None
    expand: Whole | None = None
    mamba_d_conv: Whole | None = None
    conv_kernel: Whole | None = None
    conv_kernel_size: Whole | None = None
    sconv_kernel_size: Whole | None = None
    mamba_d_state: Whole | None = None
    ssm_state_size: Whole | None = None
    state_size: Whole | None = None
    mamba_n_groups: Whole | None = None
    mamba_ngroups: Whole | None = None
    n_groups: Whole | None = None
    mamba_chunk_size: Positive | None = None
    chunk_size: Positive | None = None
    hidden_act: str | None = None
    mlp_hidden_act: str | None = None
    hidden_activation: str | None = None
    mamba_ssm_cache_dtype: str | None = None
    mamba_ssm_dtype: str | None = None
    linear_num_key_heads: Whole | None = None
    linear_num_value_heads: Whole | None = None
    linear_key_head_dim: Whole | None = None
    linear_value_head_dim: Whole | None = None
    linear_conv_kernel_dim: Whole | None = None
    linear_attn_config: LinearAttentionJson | None = None
    conv_L_cache: Whole | None = None
    conv_dim: Whole | None = None
    num_nextn_predict_layers: Whole | None = None
    mtp_num_hidden_layers: Whole | None = None
    num_experts_per_tok: PerLayer = None
    num_experts_per_token: PerLayer = None
    top_k_experts: PerLayer = None
    moe_top_k: PerLayer = None
    moe_topk: PerLayer = None
    moe_k: PerLayer = None
    moe_intermediate_size: PerLayer = None
    n_routed_experts: PerLayer = None
    num_local_experts: PerLayer = None
    num_experts: PerLayer = None
    moe_num_experts: PerLayer = None
    n_shared_experts: PerLayer = None
    first_k_dense_replace: Whole | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    tie_word_embeddings: bool | None = None
    quantization_config: QuantizationJson | None = None
    compression_config: QuantizationJson | None = None

    @property
    def inner(self) -> ModelJson | None:
        """The section of the language model."""
        others = self.language_config or self.transformer_layer_config
        return self.text_config or self.llm_config or others

    def first(self, *names: str) -> Any:
        """The first of these keys that is set, the language model's before the whole's."""
        for name in names:
            for section in (self.inner, self):
                value = getattr(section, name, None)
                if value is not None:
                    return value
        return None

    def figure(self, *names: str) -> int | None:
        """The same for a number; the largest where each layer has its own."""
        value = self.first(*names)
        return max(value, default=None) if isinstance(value, list) else value


class IndexMetadataJson(msgspec.Struct, frozen=True):
    total_size: Whole | None = None


class IndexJson(msgspec.Struct, frozen=True):
    """The index of a checkpoint in several files."""

    metadata: IndexMetadataJson | None = None
    weight_map: dict[str, str] | None = None

    @property
    def total_bytes(self) -> int:
        """0 if it does not say."""
        return (self.metadata.total_size or 0) if self.metadata else 0


class TensorJson(msgspec.Struct, frozen=True):
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: list[Whole]
    data_offsets: tuple[Whole, Whole]

    def __post_init__(self) -> None:
        start, end = self.data_offsets
        element_bytes = FLOATING_BYTES.get(self.dtype)
        if start > end or (element_bytes and end - start != self.elements * element_bytes):
            raise ValueError("`shape` and `data_offsets` contradict each other")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class ExportJson(msgspec.Struct, frozen=True):
    """hf_quant_config.json."""

    quantization: QuantizationJson = QuantizationJson()


_NOT_EXPORTED: Final = QuantizationJson()


def read_config(path: Path) -> ModelJson | PlanJson:
    """config.json in a model's directory, else Mistral's params.json. Raises `UserError`."""
    file = path / "config.json"
    if not file.exists() and (path / PARAMS).is_file():
        file = path / PARAMS
        return _checked(file, from_params(read_json(file)), ModelJson)
    data = read_json(file)
    if is_plan(data):
        return _checked(file, data, PlanJson)
    return _checked(file, completed(data), ModelJson)


def read_exported(path: Path) -> QuantizationJson:
    """Return what hf_quant_config.json says, which NVIDIA's ModelOpt writes beside config.json; all
    empty without such a file. Raises `UserError`."""
    file = path / "hf_quant_config.json"
    if not file.exists():
        return _NOT_EXPORTED
    return _checked(file, read_json(file), ExportJson).quantization


def read_index(file: Path) -> IndexJson:
    """Raises `UserError`."""
    return _checked(file, read_json(file), IndexJson)


def read_tensors(file: Path) -> dict[str, TensorJson]:
    """The tensors of a safetensors file by name, from its header. Raises `UserError`."""
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("the header is too long")
            header = msgspec.json.decode(content.read(length), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        return {name: _tensor(name, raw) for name, raw in header.items()}
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}", "download it again") from None
    except (struct.error, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a safetensors file: {error}", "download it again") from None


def _tensor(name: str, raw: msgspec.Raw) -> TensorJson:
    try:
        return msgspec.json.decode(raw, type=TensorJson)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, as Python reads it: models' files have its `NaN` and `Infinity` in them.
    Raises `UserError`."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{file}: too large for what it should be", "is it the right file?")
        data = json.loads(file.read_bytes())
    except OSError as error:
        hint = "`model_path` must name a complete model"
        raise UserError(f"{file}: {error.strerror}", hint) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}", "download the model again") from None
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected an object", "download the model again")
    return data


def _checked(file: Path, data: dict[str, Any], form: type[Form]) -> Form:
    """Numbers may be written as 4096.0 or "4096"."""
    try:
        return msgspec.convert(data, form, strict=False)
    except (ValueError, RecursionError) as error:
        # Such as: Expected `int`, got `str` - at `$.text_config.hidden_size`.
        said = str(error).replace("`$.", "`")
        hint = (
            "download the model again; `gpu_memory_gib` or `gpu_memory_utilization` of the model "
            "reserves that much of the GPU without its files"
        )
        raise UserError(f"{file}: {said}", hint) from None
