"""LoRA adapters by their names: those that a model's entry has, and the one of a job."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Final

from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from contract.model_files.adapter_json import special_settings
from workers.engine import CannotServe, JobRejected

log = logging.getLogger(__name__)

#: The name, for the engine's library alone, of the adapter for requests that name the model itself.
#: No adapter of an entry can have it (`ModelId`).
DEFAULT: Final = "(adapter_path)"


class NamedAdapters:
    """The adapters of a model: the paths of those that its library serves, the default first, and
    the reasons for those that it does not."""

    def __init__(self, model: ModelConfig) -> None:
        self._has_default = bool(model.adapter_path)
        default = {DEFAULT: model.adapter_path} if model.adapter_path else {}
        self.served = default | model.adapters
        self._refused: dict[str, str] = {}

    def refuse(self, name: str, reason: str) -> None:
        del self.served[name]
        self._refused[name] = reason

    def refuse_unread(self, library: str, reads: Collection[str] = ()) -> None:
        """Refuse those with settings that the library would leave out without a word, so that they
        would say other things than they were trained to. `reads` are those that it heeds, or
        refuses by itself. Of files that cannot be read, it says what is wrong."""
        for name, path in list(self.served.items()):
            try:
                unread = [each for each in special_settings(Path(path)) if each not in reads]
            except (OSError, ValueError):
                continue
            if unread:
                settings = ", ".join(f"`{each}`" for each in unread)
                self.refuse(name, f"{library} does not heed {settings} of its adapter_config.json")

    def remark(self, library: str) -> str:
        """Return the refusals for the operator; empty if there are none. Raises `CannotServe` if
        the default one is among them."""
        if (reason := self._refused.get(DEFAULT)) is not None:
            raise CannotServe(f"`adapter_path`: {library} cannot load this adapter: {reason}")
        said = "; ".join(f"`{name}` cannot be loaded: {why}" for name, why in self._refused.items())
        if said:
            log.error("adapters: %s", said)
        return said and f"adapters: {said}"

    def of(self, job: Job) -> str | None:
        """Return the name of the adapter that a job runs with, if any. Raises `JobRejected`."""
        if job.adapter is None:
            return DEFAULT if self._has_default else None
        if job.adapter in self._refused:
            message = f"the adapter `{job.adapter}` cannot be loaded; `./ew status` says why"
            raise JobRejected(ErrorCode.ENGINE_FAILED, message)
        if job.adapter not in self.served:
            raise no_adapter(job.adapter, self.served)
        return job.adapter


def no_adapter(name: str, known: Collection[str]) -> JobRejected:
    """Return the refusal of a request for an adapter that is none of those `known`."""
    names = ", ".join(f"`{each}`" for each in known if each != DEFAULT) or "none"
    return JobRejected(ErrorCode.INVALID_REQUEST, f"no adapter `{name}`; this model has {names}")
