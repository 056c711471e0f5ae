"""`Engine`, and what of it an adapter meets."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .manager import TokenizerManager

_SIGNATURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "signatures.json").read_text()
)
_DEFAULTS: dict[str, Any] = {
    "tp_size": 1,
    "pp_size": 1,
    "dtype": "auto",
    "quantization": None,
    "context_length": None,
    "max_running_requests": None,
    "lora_paths": None,
    "enable_lora": None,
    "enable_memory_saver": False,
    "enable_weights_cpu_backup": False,
    "enable_deterministic_inference": False,
    "incremental_streaming_output": False,
    "reasoning_parser": None,
    "is_embedding": False,
    "custom_sigquit_handler": None,
    "log_level": "error",
}
_CONSTRAINTS = {"json_schema", "regex", "ebnf", "structural_tag"}


class Engine:
    def __init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in _SIGNATURES["ServerArgs"]:
                raise TypeError(f"Unexpected keyword argument '{name}'")
        args = SimpleNamespace(**_DEFAULTS | kwargs)
        logging.basicConfig(level=args.log_level.upper(), force=True)
        if args.custom_sigquit_handler is not None:
            signal.signal(signal.SIGQUIT, args.custom_sigquit_handler)
        self.server_args = args
        self.tokenizer_manager = TokenizerManager(args)

    async def async_generate(
        self,
        prompt: str | None = None,
        sampling_params: dict[str, Any] | None = None,
        input_ids: list[int] | None = None,
        return_logprob: bool = False,
        logprob_start_len: int | None = None,
        top_logprobs_num: int | None = None,
        lora_path: str | None = None,
        require_reasoning: bool = False,
        stream: bool = False,
        rid: str | None = None,
        priority: int | None = None,
        *,
        cache_salt: str | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        # The end of a thought before a constraint is not played.
        assert not require_reasoning or not _CONSTRAINTS & (sampling_params or {}).keys()
        assert stream and prompt is None and input_ids is not None and rid is not None
        known = set(_SIGNATURES["SamplingParams"])
        asked = sampling_params or {}
        if unknown := asked.keys() - known:
            raise TypeError(f"Unexpected keyword argument '{min(unknown)}'")
        return self.tokenizer_manager.generate_request(
            SimpleNamespace(
                rid=rid,
                input_ids=input_ids,
                sampling_params=asked,
                return_logprob=return_logprob,
                top_logprobs_num=top_logprobs_num or 0,
                lora_path=lora_path,
                cache_salt=cache_salt,
            )
        )

    def shutdown(self) -> None:
        self.tokenizer_manager.shutdown()
