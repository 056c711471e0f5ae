"""The size and shape of a model, as its files have them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from contract.config import ModelConfig, is_repo_id
from contract.model_files.hub_cache import MAIN, snapshot_of
from contract.model_files.plan_json import (
    PlanJson,
    PlanLimits,
    PlanModelJson,
    QuantizationJson,
    limits_of,
)
from contract.paths import project_dir
from orchestrator.errors import UserError
from orchestrator.estimate.composed import composed, composed_weights
from orchestrator.estimate.layer_json import SpeculatorsJson
from orchestrator.estimate.layers.adapters import word_widths
from orchestrator.estimate.layers.cache_types import CacheType, cache_type
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.model_json import PARAMS, ModelJson, read_config, read_exported
from orchestrator.estimate.shape import Shape, read_shape
from orchestrator.estimate.weights import Weights, has_weights, is_gguf, read_weights, size_of
from orchestrator.hub.outline import outline_dir

_ELEMENT_BYTES: Final = {"float32": 4, "float": 4, "float8_e4m3fn": 1, "int8": 1, "fp8": 1}
#: The type that engines take for a `kv_cache_scheme` of so many bits.
_KV_SCHEMES: Final = {8: "fp8", 4: "nvfp4"}


class ModelNotHere(UserError):
    """A repository that has not been downloaded yet: its first start will do that."""

    def __init__(self, repo: str) -> None:
        super().__init__(
            f"`{repo}` is not on this host, so its size is not known yet",
            f"`./ew models pull {repo}` fetches it; so does its first start",
        )
        self.repo = repo


class PlanMemory(msgspec.Struct, frozen=True):
    """The memory figures of a TensorRT plan."""

    rank_bytes: tuple[int, ...]
    limits: PlanLimits
    kv_type: CacheType
    pipeline_parallel_size: int


class Checkpoint(msgspec.Struct, frozen=True):
    """A model on disk: a Hugging Face checkpoint, or (with `plan`) a compiled TensorRT engine."""

    path: Path
    shape: Shape
    dtype: str
    weights: Weights
    is_tied: bool = False
    quantization: str = ""
    #: The type that its files name for keys and values, such as `FP8`; empty: that of the engine.
    kv_quantization: str = ""
    plan: PlanMemory | None = None


def element_bytes(dtype: str) -> int:
    """The size of one number of a type, as configurations name it."""
    return _ELEMENT_BYTES.get(dtype, 2)


def locate_model(model: ModelConfig) -> Path:
    """The directory of the model that an engine serves: the configured one, or of a speculator the
    one that it guesses for (vLLM's `maybe_override_with_speculators`). Raises `UserError`."""
    path = locate_configured(model)
    speculator = speculator_of(path)
    target = speculator and speculator.verifier.name_or_path
    return locate(target, cache=_downloads(model)) if target else path


def locate_configured(model: ModelConfig) -> Path:
    """The directory of `model_path`, as `locate`: with the revision and the directory of
    downloads that its engine is told. Raises `UserError`."""
    revision = model.engine_args.get("revision")
    return locate(
        model.model_path, revision if isinstance(revision, str) else MAIN, _downloads(model)
    )


def _downloads(model: ModelConfig) -> Path | None:
    given = model.engine_args.get("download_dir")
    return Path(given).expanduser() if isinstance(given, str) else None


def speculator_of(path: Path) -> SpeculatorsJson | None:
    """Return what a checkpoint of vLLM's speculators says; None of others, readable or not."""
    try:
        config = read_config(path)
    except UserError:
        return None
    return config.speculators_config if isinstance(config, ModelJson) else None


def locate(model_path: str, revision: str = MAIN, cache: Path | None = None) -> Path:
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
    places = (snapshot_of(model_path, revision, cache), outline_dir(model_path))
    found = next((place for place in places if place and _is_described(place)), None)
    if found is None:
        raise ModelNotHere(model_path)
    return found


def _is_described(path: Path) -> bool:
    """Whether a directory says what its model needs; a download may have just begun."""
    is_described = (path / "config.json").is_file() or (path / PARAMS).is_file()
    return is_described and has_weights(path)


def read_checkpoint(path: Path, release: str = "") -> Checkpoint:
    """Read what decides a model's memory, as this release of the engine takes it; again only if a
    file has changed. Raises `UserError` if the files do not say."""
    return _read_checkpoint(path, release, stamp(path))


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return a digest that changes whenever one of a model's files does. Raises `UserError`."""
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
def _read_checkpoint(path: Path, release: str, _: object) -> Checkpoint:
    config = read_config(path)
    if isinstance(config, PlanJson):
        return _read_plan(path, config)
    config = composed(config, locate, read_config)
    shape = read_shape(path, config, release)
    dtype = (config.first("torch_dtype", "dtype") or "float16").removeprefix("torch.")
    is_tied = bool(config.first("tie_word_embeddings"))
    quantization = _quantization(path, config)
    size = None if quantization else element_bytes(dtype)
    sizes = {"layers": shape.layers, "hidden": shape.hidden_size}
    own = read_weights(path, size, is_tied=is_tied, **sizes)
    text = config.text_model_id and read_checkpoint(locate(config.text_model_id), release).weights
    weights = composed_weights(own, config, locate, text or None)
    if weights.adapters.whole:
        words = word_widths(config, shape.hidden_size)
        shape = msgspec.structs.replace(shape, adapters=weights.adapters + words)
    return Checkpoint(
        path=path,
        shape=shape,
        dtype=dtype,
        weights=weights,
        is_tied=is_tied,
        quantization=quantization,
        kv_quantization=_kv_quantization(path, config),
    )


def _quantization(path: Path, config: ModelJson) -> str:
    """Return the method by config.json, else that of NVIDIA's ModelOpt in its own file; GGUF is
    one by itself."""
    section = config.first("quantization_config", "compression_config")
    inline = (section.quant_method or section.quant_algo) if section else None
    return inline or read_exported(path).quant_algo or ("gguf" if is_gguf(path) else "")


def _kv_quantization(path: Path, config: ModelJson) -> str:
    """Return the type that llm-compressor (compressed-tensors) or NVIDIA's ModelOpt wrote, the
    latter into either file: engines heed it where their own setting is `auto` (in vLLM 0.33
    `get_kv_cache_quant_algo_string`, `Attention`), as far as `stored_kv_types` says."""
    section = config.first("quantization_config", "compression_config")
    return (section and _kv_type(section)) or _kv_type(read_exported(path))


def _kv_type(said: QuantizationJson) -> str:
    scheme = said.kv_cache_scheme
    return _KV_SCHEMES.get(scheme.num_bits or 0, "") if scheme else said.kv_cache_quant_algo or ""


def _read_plan(path: Path, config: PlanJson) -> Checkpoint:
    """A compiled TensorRT engine: its shape is in `pretrained_config`, its limits in
    `build_config`, its weights in one file per rank."""
    model, build = config.pretrained_config, config.build_config
    ranks = sorted(path.glob("rank*.engine"))
    if not ranks:
        raise UserError(f"{path} has no rank*.engine files", "`./ew convert-trt` makes the plan")
    dtype = model.dtype or "float16"
    quantized = model.quantization
    kv_dtype = (quantized and quantized.kv_cache_quant_algo) or ""
    limits = limits_of(build, model.max_position_embeddings)
    memory = PlanMemory(
        rank_bytes=tuple(_rank_bytes(rank) for rank in ranks),
        limits=limits,
        kv_type=cache_type(kv_dtype, element_bytes(dtype)),
        pipeline_parallel_size=(model.mapping and model.mapping.pp_size) or 1,
    )
    return Checkpoint(
        path=path,
        shape=_plan_shape(model, limits.max_seq_len),
        dtype=dtype,
        weights=Weights("plan files"),
        quantization=(quantized and quantized.quant_algo) or "",
        plan=memory,
    )


def _plan_shape(model: PlanModelJson, context_len: int) -> Shape:
    heads, hidden = model.num_attention_heads, model.hidden_size
    kv_heads = model.num_key_value_heads or heads
    head_dim = model.head_size or hidden // heads
    return Shape(
        layers=model.num_hidden_layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        caches=(CacheLayers("full", model.num_hidden_layers, kv_heads, 2 * head_dim),),
        intermediate_size=model.intermediate_size or 4 * hidden,
        vocab_size=model.vocab_size,
        context_len=context_len,
    )


def _rank_bytes(engine: Path) -> int:
    weights = engine.with_name(f"{engine.stem}_managed_weights.safetensors")
    return size_of(engine) + (size_of(weights) if weights.exists() else 0)
