"""Building plans. A stand-in's plan has the real one's config.json; its engine file carries the
weights in float32, and refuses other devices and TensorRT versions, as a real one does."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import tensorrt
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from tensorrt_llm.models import MODEL_MAP
from tensorrt_llm.release import NAME, dataclass_of, model_of

BuildConfig = model_of("BuildConfig") if NAME == "1.2.1" else dataclass_of("BuildConfig")

_MAGIC = b"STAND-IN PLAN\n"
_CALIBRATED = ("FP8", "W4A16_AWQ", "W8A8_SQ_PER_CHANNEL", "W4A8_AWQ", "NVFP4")


def build(args: SimpleNamespace, plan_dir: Path) -> None:
    """Build a plan of the checkpoint `args.model`."""
    config = json.loads((args.model / "config.json").read_text())
    architecture = config["architectures"][0]
    if architecture not in MODEL_MAP:
        raise NotImplementedError(f"Unsupported model architecture: {architecture}")
    built = args.build_config or BuildConfig()
    if built.max_beam_width > 1 and getattr(args.kv_cache_config, "enable_block_reuse", True):
        raise ValueError(
            "Cannot set 'enable_block_reuse' to be 'False' when enabling 'beam_search "
            "(beam_width > 1)', since 'enable_block_reuse' has set it to be 'True'."
        )
    from tensorrt_llm.weights import load_checkpoint

    _stage("[1/2]", "Loading HF model to memory")
    quantization = _quantize(args)
    model = load_checkpoint(args.model)
    _stage("[2/2]", "Building TRT-LLM engine")
    plan_dir.mkdir(parents=True)
    _write_config(args, plan_dir, config, built, quantization)
    header = {
        "compute_capability": _compute_capability(),
        "tensorrt": tensorrt.__version__,
        "transformers": model.config.to_dict(),
    }
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for rank in range(args.ranks):
        time.sleep(float(os.environ.get("TENSORRT_LLM_STANDIN_BUILD_S", "0")))
        body = _MAGIC + json.dumps(header).encode() + b"\n" + save(tensors)
        (plan_dir / f"rank{rank}.engine").write_bytes(body)
    for path in args.model.glob("tokenizer*"):
        shutil.copy2(path, plan_dir)
    sys.stderr.write("[TRT-LLM] [I] Total time of building all engines: 00:00:01\n")


def _read_engine(path: Path) -> tuple[dict[str, Any], bytes]:
    body = path.read_bytes()
    if not body.startswith(_MAGIC):
        raise RuntimeError("Assertion failed: Failed to deserialize cuda engine.")
    header, weights = body[len(_MAGIC) :].split(b"\n", 1)
    return json.loads(header), weights


def load(plan_dir: Path, args: SimpleNamespace) -> tuple[Any, dict[str, Any]]:
    """Return the model of a plan, and its build configuration."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = json.loads((plan_dir / "config.json").read_text())
    mapping, built = config["pretrained_config"]["mapping"], config["build_config"]
    if args.tensor_parallel_size not in (1, mapping["tp_size"]):
        raise ValueError(
            f"tp_size {args.tensor_parallel_size} is not consistent with the engine's tp_size "
            f"{mapping['tp_size']}"
        )
    args.ranks = mapping["world_size"]
    args.max_batch_size = min(args.max_batch_size or 2**31, built["max_batch_size"])
    header, weights = _read_engine(plan_dir / "rank0.engine")
    _check_device(header)
    settings = header["transformers"]
    model_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(model_config).float().eval()
    model.load_state_dict(load_tensors(weights))
    return model, built


def _check_device(header: dict[str, Any]) -> None:
    here, there = _compute_capability(), header["compute_capability"]
    if here != there:
        sys.stderr.write(
            "[TRT] [E] IRuntime::deserializeCudaEngine: Error Code 6: The engine plan file is "
            f"generated on an incompatible device, expecting compute {here} got compute "
            f"{there}, please rebuild.\n"
        )
        raise RuntimeError("Executor worker returned error")
    if tensorrt.__version__ != header["tensorrt"]:
        sys.stderr.write(
            "[TRT] [E] The engine plan file is not compatible with this version of TensorRT, "
            f"expecting library version {header['tensorrt']} got {tensorrt.__version__}, please "
            "rebuild.\n"
        )
        raise RuntimeError("Executor worker returned error")


def _quantize(args: SimpleNamespace) -> dict[str, Any]:
    algorithm = getattr(args.quant_config, "quant_algo", None)
    kv_algorithm = getattr(args.quant_config, "kv_cache_quant_algo", None)
    dataset = getattr(args.calib_config, "calib_dataset", "cnn_dailymail")
    if (algorithm in _CALIBRATED or kv_algorithm) and not Path(dataset).exists():
        raise ConnectionError(f"Couldn't reach '{dataset}' on the Hub (OfflineModeIsEnabled)")
    return {"quant_algo": _name(algorithm), "kv_cache_quant_algo": _name(kv_algorithm)}


def _write_config(
    args: SimpleNamespace,
    plan_dir: Path,
    source: dict[str, Any],
    built: Any,
    quantization: dict[str, Any],
) -> None:
    options = dict(vars(built))
    lora = options.pop("lora_config", None)
    options["max_seq_len"] = built.max_seq_len or source["max_position_embeddings"]
    options["plugin_config"] = {"lora_plugin": "auto" if args.enable_lora else None}
    options["lora_config"] = {"lora_dir": getattr(lora, "lora_dir", [])}
    heads = source["num_attention_heads"]
    shape = {
        "architecture": source["architectures"][0],
        "dtype": "float16" if args.dtype == "auto" else args.dtype,
        "num_hidden_layers": source["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": source.get("num_key_value_heads", heads),
        "hidden_size": source["hidden_size"],
        "head_size": source.get("head_dim") or source["hidden_size"] // heads,
        "vocab_size": source["vocab_size"],
        "max_position_embeddings": source["max_position_embeddings"],
        "mapping": {
            "world_size": args.ranks,
            "tp_size": args.tensor_parallel_size,
            "pp_size": args.pipeline_parallel_size,
            "cp_size": 1,
        },
        "quantization": quantization,
    }
    text = {"version": NAME, "pretrained_config": shape, "build_config": options}
    (plan_dir / "config.json").write_text(json.dumps(text, indent=4))


def _compute_capability() -> str:
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    return ".".join(map(str, pynvml.nvmlDeviceGetCudaComputeCapability(device)))


def _name(algorithm: Any) -> str | None:
    return None if algorithm is None else str(getattr(algorithm, "value", algorithm))


def _stage(number: str, label: str) -> None:
    sys.stdout.write(f"Loading Model: \x1b[1;32m{number}\t\x1b[0m{label}\n")
    sys.stdout.flush()
