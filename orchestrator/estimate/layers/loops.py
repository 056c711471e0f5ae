"""Layers that run several times for each token, and keep what they read each time.
As vLLM 0.33 makes them: dory.py, hrm_text.py and iquest_loopcoder.py of its models."""

from __future__ import annotations

from typing import Final

from orchestrator.estimate.layers.kept import Kind
from orchestrator.estimate.model_json import ModelJson

#: The second and later times that its layers run they look back a window alone.
_LOOP_CODER: Final = "IQuestLoopCoder"
_CODER_LOOPS, _CODER_WINDOW = 2, 64
#: One cache, which each time overwrites (Dory).
_OVERWRITTEN: Final = "last_loop"


def with_loops(config: ModelJson, kept: list[tuple[Kind, ...]]) -> list[tuple[Kind, ...]]:
    """Return what the layers keep, once for each time that they run."""
    if config.H_cycles and config.num_layers_per_stack is None:
        # HRM in its older form; the newer one counts each time in `num_hidden_layers`.
        return kept * (config.H_cycles * ((config.L_cycles or 0) + 1))
    if _is_loop_coder(config):
        windows: list[tuple[Kind, ...]] = [("window",)] * len(kept)
        return kept + windows * ((config.loop_num or _CODER_LOOPS) - 1)
    loops = config.n_recurrent_loops or 1
    if loops == 1 or config.recurrent_kv_cache_mode == _OVERWRITTEN:
        return kept
    first, last = config.n_input_layers or 0, len(kept) - (config.n_output_layers or 0)
    return kept[:first] + kept[first:last] * loops + kept[last:]


def loop_window(config: ModelJson) -> int:
    """Return the window of layers that have one only where they run again; 0 without such."""
    if not _is_loop_coder(config):
        return 0
    return config.loop_window_size or _CODER_WINDOW


def _is_loop_coder(config: ModelJson) -> bool:
    return any(name.startswith(_LOOP_CODER) for name in config.architectures or ())
