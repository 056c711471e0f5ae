"""What the files of a model say about its size and shape."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.config import is_repo_id
from contract.paths import ROOT
from orchestrator.errors import UserError
from orchestrator.memory.weights import Weights, read_json, read_weights

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
    Hugging Face repository in the local cache. Raises `UserError`; `ModelNotHere` if it can
    still be downloaded."""
    local = ROOT / Path(model_path).expanduser()
    if local.is_dir():
        return local
    if not is_repo_id(model_path):
        raise UserError(
            f"`{model_path}` is neither a directory nor a Hugging Face repository id",
            "check `model_path` of the model",
        )
    snapshot = _cached_snapshot(model_path)
    if snapshot is None:
        raise ModelNotHere(
            f"`{model_path}` is not on this host, so its size is not known yet",
            f"`hf download {model_path}` fetches it; so does its first start",
        )
    return snapshot


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what decides a model's memory; again only if a file has changed. Raises `UserError`
    if the files do not say."""
    return _read_checkpoint(path, _stamp(path))


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes whenever one of a model's files does."""
    found = []
    for file in sorted(path.iterdir()):
        # Links in the Hugging Face cache lead nowhere while their files are downloaded.
        stat = file.stat() if file.exists() else file.lstat()
        found.append((file.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@lru_cache(maxsize=64)
def _read_checkpoint(path: Path, _: tuple[tuple[str, int, int], ...]) -> Checkpoint:
    config = read_json(path / "config.json")
    if "pretrained_config" in config and "build_config" in config:
        return _read_plan(path, config)
    shape = _read_shape(path, config)
    dtype = str(_first(config, "torch_dtype", "dtype", default="float16")).removeprefix("torch.")
    is_tied = bool(_first(config, "tie_word_embeddings", default=False))
    return Checkpoint(
        path=path,
        shape=shape,
        dtype=dtype,
        weights=read_weights(path, element_bytes(dtype), is_tied=is_tied),
        is_tied=is_tied,
        quantization=_quantization(config),
    )


def _cached_snapshot(repo_id: str) -> Path | None:
    """Where huggingface_hub keeps a repository that has been downloaded."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = hub / f"models--{repo_id.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    snapshot = repository / "snapshots" / revision
    return snapshot if (snapshot / "config.json").is_file() else None


def _first(config: dict[str, Any], *names: str, default: Any = None) -> Any:
    """The first of these keys that is set; families spell the same figure differently. Models
    that also see or hear keep those of their language model in a section of its own."""
    inner = config.get("text_config") or config.get("llm_config") or {}
    for name in names:
        for section in (inner, config):
            if section.get(name) is not None:
                return section[name]
    return default


def _read_shape(path: Path, config: dict[str, Any]) -> Shape:
    layers = _first(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    heads = _first(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
    if not (layers and hidden and heads):
        raise UserError(
            f"{path}/config.json does not describe a decoder whose memory ew can work out",
            "set `gpu_memory_utilization` of the model: then exactly that much is reserved",
        )
    window_layers = _window_layers(config, layers)
    latent = _first(config, "kv_lora_rank", default=0)
    rotary = _first(config, "qk_rope_head_dim", default=0)
    return Shape(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=_first(config, "head_dim", "kv_channels", default=hidden // heads),
        intermediate_size=_first(
            config, "intermediate_size", "ffn_hidden_size", "n_inner", default=4 * hidden
        ),
        vocab_size=_first(config, "vocab_size", "padded_vocab_size", default=0),
        context_len=_context_len(config),
        window_layers=window_layers,
        window=_first(config, "sliding_window") if window_layers else 0,
        stateful_layers=_count_layers(config, lambda kind: kind not in _GROWING),
        latent_dim=latent + rotary if latent else 0,
        experts_per_token=_first(config, "num_experts_per_tok", "moe_topk", default=0),
        expert_size=_first(config, "moe_intermediate_size", "intermediate_size", default=0),
    )


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    given = _first(config, "num_key_value_heads", "n_head_kv", "num_kv_heads")
    if given:
        return int(given)
    if _first(config, "multi_query_attention"):
        return int(_first(config, "multi_query_group_num", default=1))
    return 1 if _first(config, "multi_query") else heads


def _context_len(config: dict[str, Any]) -> int:
    names = ("max_position_embeddings", "n_positions", "seq_length", "model_max_length")
    return int(_first(config, *names, default=2048))


def _count_layers(config: dict[str, Any], matches: Callable[[str], bool]) -> int:
    kinds = _first(config, "layer_types", "layers_block_type", default=())
    return sum(1 for kind in kinds if matches(kind))


def _window_layers(config: dict[str, Any], layers: int) -> int:
    """How many layers look back only a window. Newer configurations list the kind of each layer;
    older ones give a pattern, or a window for all."""
    if not _first(config, "sliding_window") or _first(config, "use_sliding_window") is False:
        return 0
    if _first(config, "layer_types"):
        return _count_layers(config, lambda kind: kind == "sliding_attention")
    pattern = _first(config, "sliding_window_pattern", default=0)
    if pattern > 1:
        # Every `pattern`-th layer sees everything.
        return int(layers - layers // pattern)
    if _first(config, "use_sliding_window"):
        return int(layers - min(layers, _first(config, "max_window_layers", default=0)))
    return layers


def _quantization(config: dict[str, Any]) -> str:
    section = _first(config, "quantization_config", "compression_config", default={})
    return str(section.get("quant_method") or section.get("quant_algo") or "")


def _read_plan(path: Path, config: dict[str, Any]) -> Checkpoint:
    """A compiled TensorRT engine: its shape is in `pretrained_config`, its limits in
    `build_config`, its weights in one file per rank."""
    model, build = config["pretrained_config"], config["build_config"]
    ranks = sorted(path.glob("rank*.engine"))
    if not ranks:
        raise UserError(f"{path} has no rank*.engine files", "`./ew convert-trt` makes the plan")
    dtype = str(model.get("dtype", "float16"))
    quantization = model.get("quantization") or {}
    limits = PlanLimits(
        rank_bytes=tuple(_rank_bytes(rank) for rank in ranks),
        max_batch_size=build.get("max_batch_size") or 2048,
        max_num_tokens=build.get("max_num_tokens") or 8192,
        max_beam_width=build.get("max_beam_width") or 1,
        kv_element_bytes=1 if quantization.get("kv_cache_quant_algo") else element_bytes(dtype),
        pipeline_parallel_size=(model.get("mapping") or {}).get("pp_size") or 1,
    )
    return Checkpoint(
        path=path,
        shape=_plan_shape(model, build),
        dtype=dtype,
        weights=Weights("plan files"),
        quantization=str(quantization.get("quant_algo") or ""),
        plan=limits,
    )


def _plan_shape(model: dict[str, Any], build: dict[str, Any]) -> Shape:
    heads, hidden = model["num_attention_heads"], model["hidden_size"]
    return Shape(
        layers=model["num_hidden_layers"],
        hidden_size=hidden,
        heads=heads,
        kv_heads=model.get("num_key_value_heads") or heads,
        head_dim=model.get("head_size") or hidden // heads,
        intermediate_size=model.get("intermediate_size") or 4 * hidden,
        vocab_size=model["vocab_size"],
        context_len=build.get("max_seq_len") or model.get("max_position_embeddings") or 2048,
    )


def _rank_bytes(engine: Path) -> int:
    weights = engine.with_name(f"{engine.stem}_managed_weights.safetensors")
    return engine.stat().st_size + (weights.stat().st_size if weights.exists() else 0)
