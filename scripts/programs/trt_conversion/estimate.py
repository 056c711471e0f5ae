"""The time and memory of a conversion, before it is begun, by rules of thumb."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from programs.trt_conversion.checkpoint import Checkpoint
from programs.trt_conversion.host import Gpu, available_memory_bytes, free_disk_bytes
from programs.trt_conversion.problem import Problem

GIB: Final = 2**30
#: Bytes per weight, with scales.
_WEIGHT_BYTES: Final = {
    "fp8": 1.0,
    "int8_sq": 1.0,
    "int8_wo": 1.0,
    "int4_awq": 0.56,
    "int4_wo": 0.5,
    "w4a8_awq": 0.56,
    "nvfp4": 0.56,
}
_DTYPE_BYTES: Final = {"float32": 4.0}
_CONTEXT_BYTES: Final = GIB
_CALIBRATED: Final = frozenset({"fp8", "int8_sq", "int4_awq", "w4a8_awq", "nvfp4"})


class Estimate(NamedTuple):
    """In bytes; `gpu` on each GPU."""

    weights: int
    gpu: int
    host: int
    disk: int

    def __str__(self) -> str:
        return (
            f"weights {gib(self.weights)}; needs about {gib(self.gpu)} on each GPU, "
            f"{gib(self.host)} of memory, {gib(self.disk)} of disk"
        )


def estimate_plan(checkpoint: Checkpoint, arguments: dict[str, Any]) -> Estimate:
    """For building a plan: the weights are loaded on the host, and the plan is also loaded."""
    ranks = arguments["tp_size"] * arguments["pp_size"]
    weights = _weights(checkpoint, arguments)
    config = checkpoint.config
    step_tokens = max(8192, arguments["max_input_len"])
    activations = step_tokens * int(config.get("hidden_size", 4096)) * 2 * 16
    logits = arguments["max_batch_size"] * int(config.get("vocab_size", 32000)) * 4
    serving = weights // ranks + activations + logits * arguments["max_beam_width"]
    calibrating = checkpoint.weight_bytes // ranks if _is_calibrated(arguments) else 0
    return Estimate(
        weights=weights,
        gpu=max(serving, calibrating) + _CONTEXT_BYTES,
        host=2 * checkpoint.weight_bytes + 2 * GIB,
        disk=2 * weights,
    )


def estimate_checkpoint(checkpoint: Checkpoint, arguments: dict[str, Any]) -> Estimate:
    """For preparing a checkpoint: only quantising needs a GPU."""
    weights = _weights(checkpoint, arguments)
    if arguments["quantization"] is None:
        return Estimate(weights, 0, 0, weights)
    return Estimate(weights, checkpoint.weight_bytes + GIB, checkpoint.weight_bytes, weights)


def require_room(estimate: Estimate, gpus: list[Gpu], output: Path) -> list[str]:
    """Raises `Problem` for what cannot be; answers warnings for what may be short."""
    free = free_disk_bytes(output.parent)
    if estimate.disk > free:
        raise Problem(
            f"{output.parent} has {gib(free)} free, and the conversion needs about "
            f"{gib(estimate.disk)}",
            "free some space, or give an --output on another disk",
        )
    for index, gpu in enumerate(gpus):
        if estimate.gpu > gpu.total_bytes:
            raise Problem(
                f"GPU {index} ({gpu.name}) has {gib(gpu.total_bytes)} in all, and the conversion "
                f"needs about {gib(estimate.gpu)}",
                "spread the model with --tp-size, quantise it with --quantization, or lower "
                "--max-input-len and --max-batch-size",
            )
        if estimate.gpu > gpu.free_bytes:
            raise Problem(
                f"GPU {index} ({gpu.name}) has {gib(gpu.free_bytes)} free of "
                f"{gib(gpu.total_bytes)}, and the conversion needs about {gib(estimate.gpu)}",
                "stop what runs on it (`./ew stop`, `nvidia-smi`)",
            )
    available = available_memory_bytes()
    if estimate.host <= available:
        return []
    return [
        f"this host has {gib(available)} of memory available, and loading the weights may take "
        f"{gib(estimate.host)}"
    ]


def gib(size: float) -> str:
    """`0.5 MiB`, `12.3 GiB`."""
    return f"{size / 2**20:.1f} MiB" if size < GIB / 10 else f"{size / GIB:.1f} GiB"


def _weights(checkpoint: Checkpoint, arguments: dict[str, Any]) -> int:
    if checkpoint.is_quantised:
        return checkpoint.weight_bytes
    per_weight = _WEIGHT_BYTES.get(
        arguments["quantization"], _DTYPE_BYTES.get(arguments["dtype"], 2.0)
    )
    return int(checkpoint.parameters * per_weight)


def _is_calibrated(arguments: dict[str, Any]) -> bool:
    return arguments["quantization"] in _CALIBRATED or arguments["kv_cache_dtype"] != "auto"
