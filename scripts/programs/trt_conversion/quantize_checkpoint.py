"""A step: quantises a checkpoint with NVIDIA ModelOpt, and writes it as a Hugging Face checkpoint
that TensorRT-LLM's PyTorch backend (and vLLM) loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from programs.trt_conversion.child import Child

_CONFIGS: Final = {
    "fp8": "FP8_DEFAULT_CFG",
    "int4_awq": "INT4_AWQ_CFG",
    "w4a8_awq": "W4A8_AWQ_BETA_CFG",
    "nvfp4": "NVFP4_DEFAULT_CFG",
}
_CALIBRATION_TEXTS: Final = 512
_CALIBRATION_TOKENS: Final = 512


def main() -> None:
    child = Child()
    settings = child.settings
    child.stage("loading the model")
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"trust_remote_code": settings["trust_remote_code"]}
    tokenizer = AutoTokenizer.from_pretrained(settings["model"], **options)
    # accelerate spreads a model over several GPUs, and what is left over to the host.
    spread = {"device_map": "auto"} if find_spec("accelerate") else {}
    model = AutoModelForCausalLM.from_pretrained(
        settings["model"], torch_dtype="auto", **spread, **options
    )
    if not spread and torch.cuda.is_available():
        model.to("cuda")

    def calibrate(calibrated: Any) -> None:
        for text in _texts(settings["calib_data"]):
            ids = tokenizer(
                text, return_tensors="pt", truncation=True, max_length=_CALIBRATION_TOKENS
            ).input_ids
            calibrated(ids.to(calibrated.device))

    child.stage("calibrating")
    with torch.inference_mode():
        mtq.quantize(model, getattr(mtq, _CONFIGS[settings["quantization"]]), calibrate)
        child.stage("saving the checkpoint")
        export_hf_checkpoint(model, export_dir=settings["directory"])
    for path in map(Path, settings["companions"]):
        shutil.copyfile(path, Path(settings["directory"]) / path.name)
    child.report({})


def _texts(calib_data: str | None) -> Iterator[str]:
    """Lines of text files; without any, news articles that are downloaded."""
    from itertools import islice

    yield from islice(_lines(Path(calib_data)) if calib_data else _news(), _CALIBRATION_TEXTS)


def _lines(path: Path) -> Iterator[str]:
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    for file in files:
        yield from filter(None, map(str.strip, file.read_text(errors="replace").splitlines()))


def _news() -> Iterator[str]:
    from datasets import load_dataset

    for row in load_dataset("cnn_dailymail", "3.0.0", split="train", streaming=True):
        yield row["article"]


if __name__ == "__main__":
    main()
