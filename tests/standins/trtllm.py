"""Workers with the stand-in for TensorRT-LLM: where it is, how it is chosen, and models for it.

    TRTLLM_RELEASES           the releases that it plays
    environment(release)      what a process needs to get that release
    convert(python, ...)      runs scripts/convert_trt.py
    trt_model(python, ...)    the fields of a `ModelConfig`; builds a plan where the release can
    cache_model(...)          makes a checkpoint look like a downloaded repository

`python` is an interpreter with torch, transformers and xgrammar, as in cpu-vllm's environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from contract.paths import ROOT

PLAN_RELEASES: Final = ("0.21.0", "1.0.0", "1.1.0", "1.2.1")
#: Without the plan engine.
CHECKPOINT_RELEASES: Final = ("1.3.0rc29", "1.4.0rc1")
TRTLLM_RELEASES: Final = (*PLAN_RELEASES, *CHECKPOINT_RELEASES)
_SITE: Final = ROOT / "tests" / "standins" / "tensorrt_llm"


def environment(release: str, **variables: str) -> dict[str, str]:
    """Variables for a process; PYTHONPATH is to come before other paths."""
    return {
        "PYTHONPATH": str(_SITE),
        "TENSORRT_LLM_STANDIN": release,
        "HF_HUB_OFFLINE": "1",
        **variables,
    }


def convert(
    python: str, release: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run scripts/convert_trt.py as in an environment with that release."""
    return subprocess.run(
        [python, str(ROOT / "scripts" / "convert_trt.py"), *arguments],
        env={**os.environ, **environment(release, **variables)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def trt_model(
    python: str,
    release: str,
    checkpoint: Path,
    directory: Path,
    *,
    adapter: Path | None = None,
    max_input_len: int = 512,
    max_output_len: int = 128,
    max_batch_size: int = 64,
    flags: tuple[str, ...] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Return a model for this release: a plan built into `directory`, or the checkpoint itself."""
    limits = {
        "max_batch_size": max_batch_size,
        "max_input_len": max_input_len,
        "max_output_len": max_output_len,
    }
    model: dict[str, Any] = {"engine": "cuda-trt", "model_path": str(checkpoint)}
    if release in PLAN_RELEASES:
        plan = directory / "plan"
        words = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
        lora = [f"--lora={adapter}"] if adapter else []
        made = convert(
            python, release, f"--model={checkpoint}", f"--output={plan}", *words, *lora, *flags
        )
        assert made.returncode == 0, made.stderr
        model["model_path"] = str(plan)
    if adapter:
        model["adapters"] = {"other": str(adapter)}
    return {
        **model,
        "max_model_len": max_input_len + max_output_len,
        "max_batch_size": max_batch_size,
        **settings,
    }


def cache_model(home: Path, repository: str, checkpoint: Path) -> str:
    """Put a checkpoint into a Hugging Face cache as a repository. Returns its revision."""
    revision = hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
    root = home / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    shutil.copytree(checkpoint, snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(revision)
    return revision
