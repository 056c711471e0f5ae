"""LoRA adapters in vLLM's words."""

from __future__ import annotations

from vllm.lora.request import LoRARequest

from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected

_USUAL = "default"


class Adapters:
    """The adapters of a model, and the one for requests that name the model itself."""

    def __init__(self, model: ModelConfig) -> None:
        self._has_usual = model.adapter_path is not None
        paths = dict(model.adapters)
        if model.adapter_path is not None:
            paths = {_USUAL: model.adapter_path, **paths}
        self._requests = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(paths.items(), start=1)
        }

    def __bool__(self) -> bool:
        return bool(self._requests)

    def of(self, job: Job) -> LoRARequest | None:
        """Return the adapter that a job runs with, if any. Raises `JobRejected`."""
        if job.adapter is None:
            return self._requests[_USUAL] if self._has_usual else None
        if job.adapter not in self._requests:
            known = ", ".join(f"`{name}`" for name in self._requests) or "none"
            message = f"no adapter `{job.adapter}`; this model has {known}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        return self._requests[job.adapter]
