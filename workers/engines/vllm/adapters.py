"""LoRA adapters in vLLM's words."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Final, Protocol

from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from contract.config import ModelConfig
from contract.messages import Job
from workers.engines.shared.adapters import NamedAdapters

#: A refusal in vLLM's own words, within those of its engine core and of its worker.
_REFUSAL: Final = re.compile(r"failed with error '(.*)', please check", re.DOTALL)
#: Settings whose adapters have weights of names that vLLM refuses.
_OTHER_WEIGHTS: Final = ("trainable_token_indices", "kasa_config", "monteclora_config")


class TakesAdapters(Protocol):
    """The part of vLLM's engine that loads adapters."""

    async def add_lora(self, lora_request: LoRARequest) -> bool:
        """Raises `Exception` with the library's words for one that it cannot load."""


class Adapters:
    """The adapters of a model, and the one for requests that name the model itself."""

    def __init__(self, model: ModelConfig) -> None:
        self._known = known = NamedAdapters(model)
        self._requests = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(known.served.items(), start=1)
        }

    async def load(self, engine: TakesAdapters) -> str:
        """Have vLLM load each once, for an adapter that it first meets in a request and cannot load
        ends its engine core, with all answers that are under way (0.32). Those with settings that
        its release does not know are not given to it. Return a remark on those that are refused;
        empty if there are none. Raises `CannotServe` for the default one."""
        known = self._known
        read = (field.name for field in fields(PEFTHelper))
        known.refuse_unread("vLLM", {*_OTHER_WEIGHTS, *read})
        for name in list(known.served):
            try:
                await engine.add_lora(self._requests[name])
            except EngineDeadError:
                raise
            except Exception as error:
                found = _REFUSAL.search(str(error))
                known.refuse(name, found[1] if found else str(error))
        return known.remark("vLLM")

    def __bool__(self) -> bool:
        return bool(self._requests)

    def of(self, job: Job) -> LoRARequest | None:
        """Return the adapter that a job runs with, if any. Raises `JobRejected`."""
        name = self._known.of(job)
        return None if name is None else self._requests[name]
