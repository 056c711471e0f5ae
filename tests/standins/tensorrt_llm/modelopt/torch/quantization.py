"""Quantisation of a model in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FP8_DEFAULT_CFG = {"algorithm": "FP8"}
INT4_AWQ_CFG = {"algorithm": "W4A16_AWQ"}
W4A8_AWQ_BETA_CFG = {"algorithm": "W4A8_AWQ"}
NVFP4_DEFAULT_CFG = {"algorithm": "NVFP4"}


def quantize(model: Any, config: dict[str, str], forward_loop: Callable[[Any], None]) -> Any:
    calls = 0
    forward = model.forward

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*arguments, **options)

    model.forward = counted
    forward_loop(model)
    model.forward = forward
    model.quantised = {**config, "calibrated_on": calls}
    return model
