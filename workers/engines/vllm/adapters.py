"""LoRA adapters in vLLM's words."""

from __future__ import annotations

import logging
import re
from typing import Final, Protocol

from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from workers.engine import CannotServe, JobRejected
from workers.engines.shared.adapters import DEFAULT, adapter_of, named_adapters

log = logging.getLogger(__name__)

#: A refusal in vLLM's own words, within those of its engine core and of its worker.
_REFUSAL: Final = re.compile(r"failed with error '(.*)', please check", re.DOTALL)


class TakesAdapters(Protocol):
    """The part of vLLM's engine that loads adapters."""

    async def add_lora(self, lora_request: LoRARequest) -> bool:
        """Raises `Exception` with the library's words for one that it cannot load."""


class Adapters:
    """The adapters of a model, and the one for requests that name the model itself."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._requests = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(named_adapters(model).items(), start=1)
        }
        self._refused: dict[str, str] = {}

    async def load(self, engine: TakesAdapters) -> str:
        """Have vLLM load each once, for an adapter that it first meets in a request and cannot load
        ends its engine core, with all answers that are under way (0.32). Return a remark on those
        that it refuses; empty if there are none. Raises `CannotServe` for the default one."""
        for name, request in self._requests.items():
            try:
                await engine.add_lora(request)
            except EngineDeadError:
                raise
            except Exception as error:
                found = _REFUSAL.search(str(error))
                self._refused[name] = found[1] if found else str(error)
        if (reason := self._refused.get(DEFAULT)) is not None and self._model.adapter_path:
            raise CannotServe(f"`adapter_path`: vLLM cannot load this adapter: {reason}")
        said = "; ".join(f"`{name}` cannot be loaded: {why}" for name, why in self._refused.items())
        if said:
            log.error("adapters: %s", said)
        return said and f"adapters: {said}"

    def __bool__(self) -> bool:
        return bool(self._requests)

    def of(self, job: Job) -> LoRARequest | None:
        """Return the adapter that a job runs with, if any. Raises `JobRejected`."""
        name = adapter_of(job, self._model, self._requests)
        if name is None:
            return None
        if name in self._refused:
            message = f"the adapter `{name}` cannot be loaded; `./ew status` says why"
            raise JobRejected(ErrorCode.ENGINE_FAILED, message)
        return self._requests[name]
