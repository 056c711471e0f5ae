"""What the files of a model say about its size and shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from contract.config import is_repo_id
from contract.hub_cache import snapshot_of
from contract.paths import project_dir
from orchestrator.errors import UserError
from orchestrator.estimate.model_json import (
    ModelJson,
    PlanBuildJson,
    PlanJson,
    PlanModelJson,
    read_config,
)
from orchestrator.estimate.weights import Weights, has_weights, read_weights, size_of
from orchestrator.hub.outline import outline_dir

_ELEMENT_BYTES: Final = {"float32": 4, "float": 4, "float8_e4m3fn": 1, "int8": 1, "fp8": 1}
_GROWING: Final = ("full_attention", "sliding_attention", "chunked_attention", "attention")


class ModelNotHere(UserError):
    """A repository that has not been downloaded yet: its first start will do that."""


class Shape(msgspec.Struct, frozen=True):
    """The figures of a decoder that decide its memory, for the whole model."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    #: The longest context that the model was made for, in tokens.
    context_len: int
    #: Layers whose cache ends at `window` tokens, and layers without a growing cache at all.
    window_layers: int = 0
    window: int = 0
    stateful_layers: int = 0
    #: Elements that multi-head latent attention caches per token and layer; 0: keys and values.
    latent_dim: int = 0
    #: Mixture of experts: how many of them a token passes through, and their inner size.
    experts_per_token: int = 0
    expert_size: int = 0

    @property
    def full_layers(self) -> int:
        """Layers whose cache grows with the whole context."""
        return self.layers - self.window_layers - self.stateful_layers


class PlanLimits(msgspec.Struct, frozen=True):
    """What was fixed when a TensorRT plan was built."""

    rank_bytes: tuple[int, ...]
    max_batch_size: int
    max_num_tokens: int
    max_beam_width: int
    kv_element_bytes: int
    pipeline_parallel_size: int


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on disk: a Hugging Face checkpoint, or (with `plan`) a compiled TensorRT engine."""

    path: Path
    shape: Shape
    dtype: str
    weights: Weights
    is_tied: bool = False
    quantization: str = ""
    plan: PlanLimits | None = None


def element_bytes(dtype: str) -> int:
    """The size of one number of a type, as configurations name it."""
    return _ELEMENT_BYTES.get(dtype, 2)


def locate(model_path: str) -> Path:
    """The directory of a model: a local one (relative to the project), or the snapshot of a
    Hugging Face repository in the local cache, or at least its outline.

    Raises `UserError`; `ModelNotHere` if it can still be downloaded.
    """
    local = project_dir() / Path(model_path).expanduser()
    if local.is_dir():
        return local
    if not is_repo_id(model_path):
        raise UserError(
            f"`{model_path}` is neither a directory nor a Hugging Face repository id",
            "check `model_path` of the model",
        )
    places = (snapshot_of(model_path), outline_dir(model_path))
    found = next((place for place in places if place and _is_described(place)), None)
    if found is None:
        raise ModelNotHere(
            f"`{model_path}` is not on this host, so its size is not known yet",
            f"`./ew models pull {model_path}` fetches it; so does its first start",
        )
    return found


def _is_described(path: Path) -> bool:
    """Whether a directory says what its model needs; a download may have just begun."""
    return (path / "config.json").is_file() and has_weights(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what decides a model's memory; again only if a file has changed. Raises `UserError`
    if the files do not say."""
    return _read_checkpoint(path, _stamp(path))


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes whenever one of a model's files does. Raises `UserError`."""
    found = []
    try:
        for file in sorted(path.iterdir()):
            # Links in the Hugging Face cache lead nowhere while their files are downloaded.
            stat = file.stat() if file.exists() else file.lstat()
            found.append((file.name, stat.st_mtime_ns, stat.st_size))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "is `model_path` right?") from None
    return tuple(found)


@lru_cache(maxsize=64)
def _read_checkpoint(path: Path, _: tuple[tuple[str, int, int], ...]) -> Checkpoint:
    config = read_config(path)
    if isinstance(config, PlanJson):
        return _read_plan(path, config)
    shape = _read_shape(path, config)
    dtype = (config.first("torch_dtype", "dtype") or "float16").removeprefix("torch.")
    is_tied = bool(config.first("tie_word_embeddings"))
    return Checkpoint(
        path=path,
        shape=shape,
        dtype=dtype,
        weights=read_weights(path, element_bytes(dtype), is_tied=is_tied),
        is_tied=is_tied,
        quantization=_quantization(config),
    )


def _read_shape(path: Path, config: ModelJson) -> Shape:
    layers = config.figure("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    hidden = config.figure("hidden_size", "n_embd", "d_model")
    heads = config.figure("num_attention_heads", "n_head", "num_heads", "n_heads")
    if not (layers and hidden and heads):
        raise UserError(
            f"{path}/config.json does not describe a decoder whose memory ew can work out",
            "set `gpu_memory_utilization` of the model: then exactly that much is reserved",
        )
    window_layers = _window_layers(config, layers)
    latent = config.figure("kv_lora_rank") or 0
    rotary = config.figure("qk_rope_head_dim") or 0
    return Shape(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=_given(config.figure("head_dim", "kv_channels"), hidden // heads),
        intermediate_size=_given(
            config.figure("intermediate_size", "ffn_hidden_size", "n_inner"), 4 * hidden
        ),
        vocab_size=config.figure("vocab_size", "padded_vocab_size") or 0,
        context_len=_context_len(config),
        window_layers=window_layers,
        window=config.figure("sliding_window") or 0 if window_layers else 0,
        stateful_layers=_count_layers(config, lambda kind: kind not in _GROWING),
        latent_dim=latent + rotary if latent else 0,
        experts_per_token=config.figure("num_experts_per_tok", "moe_topk") or 0,
        expert_size=config.figure("moe_intermediate_size", "intermediate_size") or 0,
    )


def _given(figure: int | None, otherwise: int) -> int:
    return otherwise if figure is None else figure


def _kv_heads(config: ModelJson, heads: int) -> int:
    given = config.figure("num_key_value_heads", "n_head_kv", "num_kv_heads")
    if given:
        return given
    if config.first("multi_query_attention"):
        return _given(config.figure("multi_query_group_num"), 1)
    return 1 if config.first("multi_query") else heads


def _context_len(config: ModelJson) -> int:
    names = ("max_position_embeddings", "n_positions", "seq_length", "model_max_length")
    return _given(config.figure(*names), 2048)


def _count_layers(config: ModelJson, matches: Callable[[str], bool]) -> int:
    kinds: list[str] = config.first("layer_types", "layers_block_type") or []
    return sum(1 for kind in kinds if matches(kind))


def _window_layers(config: ModelJson, layers: int) -> int:
    """How many layers look back only a window. Newer configurations list the kind of each layer;
    older ones give a pattern, or a window for all."""
    if not config.figure("sliding_window") or config.first("use_sliding_window") is False:
        return 0
    if config.first("layer_types"):
        return _count_layers(config, lambda kind: kind == "sliding_attention")
    pattern = config.figure("sliding_window_pattern") or 0
    if pattern > 1:
        # Every `pattern`-th layer sees everything.
        return layers - layers // pattern
    if config.first("use_sliding_window"):
        return layers - min(layers, config.figure("max_window_layers") or 0)
    return layers


def _quantization(config: ModelJson) -> str:
    section = config.first("quantization_config", "compression_config")
    return (section.quant_method or section.quant_algo or "") if section else ""


def _read_plan(path: Path, config: PlanJson) -> Checkpoint:
    """A compiled TensorRT engine: its shape is in `pretrained_config`, its limits in
    `build_config`, its weights in one file per rank."""
    model, build = config.pretrained_config, config.build_config
    ranks = sorted(path.glob("rank*.engine"))
    if not ranks:
        raise UserError(f"{path} has no rank*.engine files", "`./ew convert-trt` makes the plan")
    dtype = model.dtype or "float16"
    quantized = model.quantization
    caches_quantized = quantized is not None and quantized.kv_cache_quant_algo
    limits = PlanLimits(
        rank_bytes=tuple(_rank_bytes(rank) for rank in ranks),
        max_batch_size=build.max_batch_size or 2048,
        max_num_tokens=build.max_num_tokens or 8192,
        max_beam_width=build.max_beam_width or 1,
        kv_element_bytes=1 if caches_quantized else element_bytes(dtype),
        pipeline_parallel_size=(model.mapping and model.mapping.pp_size) or 1,
    )
    return Checkpoint(
        path=path,
        shape=_plan_shape(model, build),
        dtype=dtype,
        weights=Weights("plan files"),
        quantization=(quantized and quantized.quant_algo) or "",
        plan=limits,
    )


def _plan_shape(model: PlanModelJson, build: PlanBuildJson) -> Shape:
    heads, hidden = model.num_attention_heads, model.hidden_size
    return Shape(
        layers=model.num_hidden_layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=model.num_key_value_heads or heads,
        head_dim=model.head_size or hidden // heads,
        intermediate_size=model.intermediate_size or 4 * hidden,
        vocab_size=model.vocab_size,
        context_len=build.max_seq_len or model.max_position_embeddings or 2048,
    )


def _rank_bytes(engine: Path) -> int:
    weights = engine.with_name(f"{engine.stem}_managed_weights.safetensors")
    return size_of(engine) + (size_of(weights) if weights.exists() else 0)
