"""One conversion, from the checkpoint to the directory that is served."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

from programs.trt_conversion.checkpoint import Checkpoint, open_checkpoint
from programs.trt_conversion.estimate import (
    Estimate,
    estimate_checkpoint,
    estimate_plan,
    gib,
    require_room,
)
from programs.trt_conversion.host import Gpu, driver, gpus, installed_version, require_gpus
from programs.trt_conversion.manifest import differences, inputs_of, read_manifest, write_manifest
from programs.trt_conversion.output import Output, require_replaceable
from programs.trt_conversion.problem import Problem
from programs.trt_conversion.stages import Stages, clock

#: The settings that the output depends on.
_PLAN_ARGUMENTS: Final = (
    "dtype",
    "tp_size",
    "pp_size",
    "max_batch_size",
    "max_input_len",
    "max_output_len",
    "max_beam_width",
    "quantization",
    "kv_cache_dtype",
    "calib_data",
    "lora",
    "trust_remote_code",
)
_CHECKPOINT_ARGUMENTS: Final = ("quantization", "calib_data", "trust_remote_code")
#: The files that the PyTorch backend loads.
_CHECKPOINT_QUANTIZATIONS: Final = (None, "fp8", "int4_awq", "w4a8_awq", "nvfp4")


class Conversion:
    """A plan to be made, and the steps to it. Everything raises `Problem`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.output = Path(options.output).expanduser().resolve()
        for name in ("calib_data", "lora"):
            if getattr(options, name):
                setattr(options, name, str(_existing(f"--{name.replace('_', '-')}", options)))
        log = options.log or self.output.with_name(f"{self.output.name}.log")
        self.stages = Stages(log.resolve())

    def run(self) -> None:
        """Make it, unless it is there."""
        began = time.monotonic()
        checkpoint = self._open_checkpoint()
        if self._is_known_to_be_made(checkpoint):
            return
        release = self.stages.run("looking at TensorRT-LLM", "probe", {})
        kind = "plan" if release["has_plans"] else "checkpoint"
        self._check_model(checkpoint, release)
        facts = self._facts(kind, checkpoint, release)
        if self._is_made(facts):
            return
        self._check_room(kind, checkpoint)
        if self.options.dry_run:
            self.stages.say(f"would make the {kind} {self.output}; nothing was done (--dry-run)")
            return
        with Output(self.output) as output:
            self._make(kind, checkpoint, output)
            facts["build_s"] = round(time.monotonic() - began, 1)
            with self.stages.stage("writing the manifest"):
                manifest = write_manifest(output.directory, facts)
            output.publish()
        self._tell(kind, manifest, time.monotonic() - began)

    def _open_checkpoint(self) -> Checkpoint:
        with self.stages.stage("looking at the checkpoint"):
            checkpoint = open_checkpoint(self.options.model, self.options.revision, self.stages.say)
        checkpoint.require_family(self.options.model_type)
        self.stages.say(
            f"{checkpoint.name}: {checkpoint.architecture} (type {checkpoint.family}), "
            f"{checkpoint.parameters / 1e6:,.0f} million parameters, "
            f"{gib(checkpoint.weight_bytes)}"
        )
        return checkpoint

    def _check_model(self, checkpoint: Checkpoint, release: dict[str, Any]) -> None:
        """Whether this release takes this model, and can do what is asked."""
        name = f"TensorRT-LLM {release['tensorrt_llm']}"
        if checkpoint.architecture not in release["architectures"]:
            raise Problem(
                f"{name} does not know the architecture `{checkpoint.architecture}`",
                f"it knows {', '.join(release['architectures'])}; cuda-vllm may serve the model",
            )
        if release["has_plans"]:
            return
        self.stages.say(
            f"{name} cannot build plans (releases from 1.3.0rc23 on have no TensorRT engine): it "
            "serves checkpoints with its PyTorch backend, and this prepares one. Lengths, batch "
            "size and GPUs are not built in; they are set in the model's configuration. For a "
            "plan, use 1.2.1: ./ew setup --engine cuda-trt --version 1.2.1"
        )
        if self.options.quantization not in _CHECKPOINT_QUANTIZATIONS:
            known = ", ".join(filter(None, _CHECKPOINT_QUANTIZATIONS))
            raise Problem(
                f"the PyTorch backend does not run {self.options.quantization}",
                f"it runs {known}",
            )
        if self.options.kv_cache_dtype != "auto":
            raise Problem(
                "--kv-cache-dtype is built into plans only",
                'set it in the model\'s configuration: "engine_args": {"kv_cache_config": '
                f'{{"dtype": "{self.options.kv_cache_dtype}"}}}}',
            )

    def _facts(self, kind: str, checkpoint: Checkpoint, versions: dict[str, Any]) -> dict[str, Any]:
        """Return what the manifest says, before anything is made."""
        names = _PLAN_ARGUMENTS if kind == "plan" else _CHECKPOINT_ARGUMENTS
        known = ("tensorrt_llm", "tensorrt", "torch", "cuda")
        seen = driver()
        return {
            "kind": kind,
            "source": {
                "model": checkpoint.name,
                "revision": checkpoint.revision,
                "fingerprint": checkpoint.fingerprint(),
            },
            "model_type": checkpoint.family,
            "architecture": checkpoint.architecture,
            "arguments": {name: getattr(self.options, name) for name in names},
            "versions": {
                **{name: versions.get(name) for name in known},
                "driver": seen.version,
                "driver_cuda": seen.cuda,
            },
            "gpu": self._gpu_facts() if kind == "plan" else None,
        }

    def _gpu_facts(self) -> dict[str, str]:
        gpu = self._gpus()[0]
        return {"name": gpu.name, "compute_capability": gpu.compute_capability}

    def _gpus(self) -> list[Gpu]:
        return require_gpus(gpus(), self.options.tp_size * self.options.pp_size)

    def _is_known_to_be_made(self, checkpoint: Checkpoint) -> bool:
        """Return the quick answer, without importing TensorRT-LLM."""
        old, version = read_manifest(self.output), installed_version()
        if old is None or version is None:
            return False
        new = self._facts(old["kind"], checkpoint, {"tensorrt_llm": version})
        return inputs_of(old) == inputs_of(new) and self._is_made(new)

    def _is_made(self, facts: dict[str, Any]) -> bool:
        """Return whether the same is there already. Something else there needs --force."""
        require_replaceable(self.output)
        old = read_manifest(self.output)
        if old is None:
            return False
        changed = differences(inputs_of(old), inputs_of(facts))
        if not changed:
            self.stages.say(f"{self.output} is up to date; nothing to do")
            return True
        if not self.options.force:
            raise Problem(
                f"{self.output} was made differently: {'; '.join(changed)}",
                "--force replaces it; another --output keeps both",
            )
        self.stages.say(f"replacing {self.output}: {'; '.join(changed)}")
        return False

    def _check_room(self, kind: str, checkpoint: Checkpoint) -> None:
        context = checkpoint.config.get("max_position_embeddings")
        longest = self.options.max_input_len + self.options.max_output_len
        if kind == "plan" and context and longest > context:
            self.stages.warn(
                f"the model's context is {context} tokens, and the plan will take {longest}: "
                "answers beyond the context may be nonsense"
            )
        estimate, used = self._estimate(kind, checkpoint)
        self.stages.say(f"estimate: {estimate}")
        for warning in require_room(estimate, used, self.output):
            self.stages.warn(warning)

    def _estimate(self, kind: str, checkpoint: Checkpoint) -> tuple[Estimate, list[Gpu]]:
        if kind == "plan":
            return estimate_plan(checkpoint, vars(self.options)), self._gpus()
        if self.options.quantization is None:
            return estimate_checkpoint(checkpoint, vars(self.options)), []
        return estimate_checkpoint(checkpoint, vars(self.options)), require_gpus(gpus(), 1)

    def _make(self, kind: str, checkpoint: Checkpoint, output: Output) -> None:
        with_code = self.options.trust_remote_code
        settings = {
            **{name: getattr(self.options, name) for name in (*_PLAN_ARGUMENTS, "workers")},
            "model": str(checkpoint.path),
            "directory": str(output.directory),
            "workspace": str(output.workspace),
            "companions": [str(path) for path in checkpoint.companions(with_code=with_code)],
        }
        if kind == "plan":
            self.stages.run("building the plan", "build_plan", settings)
        elif self.options.quantization:
            self.stages.run("quantising the checkpoint", "quantize_checkpoint", settings)
        else:
            with self.stages.stage("taking over the checkpoint"):
                _take_over(checkpoint.path, output.directory)

    def _tell(self, kind: str, manifest: dict[str, Any], took_s: float) -> None:
        size = sum(file["bytes"] for file in manifest["files"].values())
        self.stages.say(f"made the {kind} {self.output}: {gib(size)} in {clock(took_s)}")
        self.stages.say(f"log: {self.stages.log}")


def _take_over(source: Path, directory: Path) -> None:
    """All files of a checkpoint, linked where the disk allows it."""
    for path in source.iterdir():
        if not path.is_file():
            continue
        try:
            os.link(path.resolve(), directory / path.name)
        except OSError:
            shutil.copyfile(path, directory / path.name)


def _existing(flag: str, options: argparse.Namespace) -> Path:
    given = getattr(options, flag.strip("-").replace("-", "_"))
    path = Path(given).expanduser().resolve()
    if not path.exists():
        raise Problem(f"{flag}: {given} does not exist")
    return path
