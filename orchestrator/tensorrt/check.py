"""Whether this host can serve the plan of a model, seen before anything is started: the engine
would say so after minutes, and in its own words."""

from __future__ import annotations

import os
from typing import Final

from contract.config import ModelConfig
from contract.paths import project_dir
from orchestrator.errors import UserError
from orchestrator.gpu.nvml.client import Nvml
from orchestrator.gpu.nvml.snapshot import restricted
from orchestrator.tensorrt.plan import PlanDevice, check_plan, read_plan

#: A driver that loads at its first question may take longer; its GPUs are the engine's to check.
_DRIVER_ANSWERS_WITHIN_S: Final = 10.0


def require_fitting_plan(model_id: str, model: ModelConfig, version: str) -> None:
    """Raises `UserError`, with the command that mends it, if the model is a plan that does not
    fit TensorRT-LLM `version`, the GPUs that the model may use, or its configuration."""
    path = project_dir() / model.model_path
    found = read_plan(path)
    if found is None:
        return
    try:
        check_plan(model_id, model, found, version, _devices(model))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the plan of model `{model_id}` cannot be understood: {path}: {error!r}",
            "`./ew convert-trt` builds it again",
        ) from None


def _devices(model: ModelConfig) -> list[PlanDevice]:
    """Return the GPUs that the model may use; none if they cannot be seen."""
    snapshot = Nvml().snapshot(_DRIVER_ANSWERS_WITHIN_S)
    visible = restricted(snapshot, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return [
        PlanDevice(gpu.name, gpu.compute_capability or None)
        for gpu in visible.places
        if not gpu.problem and (model.gpus is None or {gpu.index, gpu.uuid} & {*model.gpus})
    ]
