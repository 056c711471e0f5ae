"""Requests for adapters, and the error that is one request's own."""

from __future__ import annotations

from pathlib import Path

from .release import dataclass_of


class RequestError(RuntimeError):
    """This request failed; the engine goes on."""


class _CheckedPath:
    def __post_init__(self) -> None:
        if self.lora_path and not Path(self.lora_path).exists():
            raise ValueError(f"lora_path ({self.lora_path}) does not exist.")

    @property
    def adapter_id(self) -> int:
        return self.lora_int_id

    @property
    def path(self) -> str:
        return self.lora_path


LoRARequest = dataclass_of("LoRARequest", kw_only=False, base=_CheckedPath)
