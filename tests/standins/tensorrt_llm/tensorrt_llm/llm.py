"""The LLM API: `PlanLLM` builds and runs plans, `TorchLLM` runs checkpoints.

transformers and xgrammar are imported when a model is loaded: they take seconds.
"""

from __future__ import annotations

import inspect
import itertools
import os
import queue
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

from .executor import RequestError
from .release import RELEASE
from .result import RequestOutput
from .runtime import Executor, Sequence
from .sampling_params import SamplingParams


class TokenizerWrapper:
    """Hides, as the real one does, what the library does not need itself."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @property
    def eos_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)


class BaseLLM:
    """The part that both kinds share."""

    allowed: frozenset[str]

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        from transformers import AutoTokenizer

        from .guidance import Guides

        self._check_arguments(kwargs)
        ranks = tensor_parallel_size * kwargs.get("pipeline_parallel_size", 1)
        self.args = SimpleNamespace(
            model=Path(model),
            dtype=dtype,
            ranks=ranks,
            tensor_parallel_size=tensor_parallel_size,
            max_batch_size=None,
            kv_cache_config=None,
            guided_decoding_backend=None,
            gather_generation_logits=False,
            enable_chunked_prefill=False,
            lora_config=None,
            enable_lora=False,
            max_seq_len=None,
            max_num_tokens=None,
            max_beam_width=None,
            build_config=None,
            quant_config=None,
            calib_config=None,
            pipeline_parallel_size=1,
        )
        vars(self.args).update(kwargs)
        self._ids = itertools.count(1)
        self._adapters: dict[int, Any] = {}
        self._load()
        _require_devices(self.args.ranks)
        _require_guard(self.args.ranks)
        loaded = AutoTokenizer.from_pretrained(tokenizer or self.args.model)
        self.tokenizer = TokenizerWrapper(loaded)
        vocabulary = self._model.config.vocab_size
        backend = self.args.guided_decoding_backend
        self._guides = Guides(loaded, vocabulary) if backend else None
        self._executor: Executor | None = Executor(self.args.max_batch_size, loaded)

    def _check_arguments(self, kwargs: dict[str, Any]) -> None:
        for name in kwargs:
            if name not in self.allowed:
                kind = type(self).real_name
                raise ValueError(f"{kind} got invalid argument: {name}")

    def _load(self) -> None:
        raise NotImplementedError

    def _check_request(self, prompt_tokens: int, params: SamplingParams) -> None:
        raise NotImplementedError

    def _generate(
        self, inputs: Any, params: SamplingParams | None, lora_request: Any, streaming: bool
    ) -> RequestOutput:
        if self._executor is None or self._executor.is_shutdown():
            raise RuntimeError("LLM is shutting down")
        params = params or SamplingParams()
        tokenizer = self.tokenizer.tokenizer
        params.setup(tokenizer)
        prompt = self._token_ids(inputs)
        self._check_request(len(prompt), params)
        if params.best_of > 1 and not params.use_beam_search:
            raise NotImplementedError("the stand-in runs n > 1 for beam search only")
        output = RequestOutput(
            next(self._ids), prompt, params, tokenizer, self._executor, streaming, self._died
        )
        self._executor.submit(
            Sequence(
                output,
                params,
                self._model_for(lora_request),
                streaming,
                self._guide(params),
                self._executor.directives(prompt),
            )
        )
        return output

    def _token_ids(self, inputs: Any) -> list[int]:
        match inputs:
            case str() | {"prompt": str()}:
                text = inputs if isinstance(inputs, str) else inputs["prompt"]
                return self.tokenizer.tokenizer.encode(text)
            case {"prompt_token_ids": list(ids)}:
                return ids
            case [int(), *_]:
                return inputs
        raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")

    def _guide(self, params: SamplingParams) -> Any:
        if params.guided_decoding is None:
            return None
        if self._guides is None:
            raise RequestError("Request uses guided decoding, which is not enabled.")
        try:
            return self._guides.guide(params.guided_decoding)
        except RuntimeError as error:
            raise RequestError(str(error)) from error

    def _model_for(self, lora_request: Any) -> Any:
        if lora_request is None:
            return self._model
        if not self._has_lora():
            raise RequestError("LoRA is not enabled for this engine.")
        number = lora_request.adapter_id
        if number not in self._adapters:
            from .weights import with_adapter

            self._adapters[number] = with_adapter(self._model, Path(lora_request.path))
        return self._adapters[number]

    def _has_lora(self) -> bool:
        return bool(self.args.enable_lora or self.args.lora_config)

    def _died(self, error: BaseException) -> None:
        self.shutdown()
        raise error

    def generate(
        self, inputs: Any, sampling_params: SamplingParams | None = None, use_tqdm: bool = True
    ) -> RequestOutput:
        """Blocking, of one prompt. It takes no `streaming`."""
        return self._generate(inputs, sampling_params, None, streaming=False).result()

    def get_stats_async(self, timeout: float | None = 2) -> AsyncIterator[dict[str, Any]]:
        return self._stats()

    async def _stats(self) -> AsyncIterator[dict[str, Any]]:
        if self._executor is None:
            return
        while True:
            try:
                yield self._executor.stats.get_nowait()
            except queue.Empty:
                return

    def shutdown(self) -> None:
        if getattr(self, "_executor", None) is not None:
            self._executor.shutdown()
            self._executor = None

    def __enter__(self) -> BaseLLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class PlanLLM(BaseLLM):
    """Builds a plan of a checkpoint, or loads a plan."""

    allowed = frozenset(RELEASE.get("plan_arguments", ()))
    real_name = "_TrtLLM" if RELEASE["has_plan_module"] else "LLM"

    def _load(self) -> None:
        from .builder import build, load

        self._workspace: tempfile.TemporaryDirectory[str] | None = None
        self.plan_dir = self.args.model
        if (self.args.model / "config.json").exists() and not list(
            self.args.model.glob("rank*.engine")
        ):
            self._workspace = tempfile.TemporaryDirectory(suffix="-llm-workspace")
            self.plan_dir = Path(self._workspace.name) / "tmp.engine"
            build(self.args, self.plan_dir)
            self.args.model = self.plan_dir
        self._model, self._built = load(self.plan_dir, self.args)

    def save(self, engine_dir: str) -> None:
        shutil.copytree(self.plan_dir, engine_dir, dirs_exist_ok=True)

    def shutdown(self) -> None:
        super().shutdown()
        if getattr(self, "_workspace", None) is not None:
            self._workspace.cleanup()
            self._workspace = None

    def _has_lora(self) -> bool:
        return bool(self._built["plugin_config"]["lora_plugin"])

    def _check_request(self, prompt_tokens: int, params: SamplingParams) -> None:
        longest, width = self._built["max_seq_len"], self._built["max_beam_width"]
        if not self.args.enable_chunked_prefill and (
            prompt_tokens + (params.max_tokens or 0) > longest
        ):
            raise ValueError(
                f"The sum of prompt length ({float(prompt_tokens)}) and query length (0) "
                f"max_tokens ({params.max_tokens}) should not exceed max_seq_len ({longest})"
            )
        if params.use_beam_search and params.best_of > width:
            name = "n" if params.n == params.best_of else "best_of"
            raise ValueError(
                f"sampling_params.{name} ({params.best_of}) cannot exceed max_beam_width "
                f"({width}) when use_beam_search is True"
            )
        if params.logprobs and not self.args.gather_generation_logits:
            raise ValueError(
                f"`sampling_params.logprobs={params.logprobs}` requires "
                "`gather_generation_logits=True` to be passed explicitly to the `LLM()` "
                "constructor."
            )


class TorchLLM(BaseLLM):
    """Runs a checkpoint."""

    allowed = frozenset(RELEASE.get("pytorch_arguments", ()))
    real_name = "LLM"

    def _check_arguments(self, kwargs: dict[str, Any]) -> None:
        if kwargs.pop("backend", "pytorch") == "tensorrt":
            raise ValueError("The TensorRT backend has been removed.")
        foreign = [
            name
            for name in kwargs
            if name in RELEASE.get("plan_arguments", ()) and name not in self.allowed
        ]
        if foreign:
            raise ValueError(
                "The following arguments are specific to TensorRT backend and cannot be used "
                f"with PyTorch backend: {foreign}.\nPlease use 'from "
                "tensorrt_llm._tensorrt_engine import LLM' instead to use the TensorRT backend."
            )
        super()._check_arguments(kwargs)

    def _load(self) -> None:
        if list(self.args.model.glob("rank*.engine")):
            raise ValueError(f"{self.args.model}: no safetensors or bin files are found")
        from .weights import load_checkpoint

        self._model = load_checkpoint(self.args.model)
        self.args.max_batch_size = self.args.max_batch_size or 2048
        self.args.max_num_tokens = self.args.max_num_tokens or 8192

    def _check_request(self, prompt_tokens: int, params: SamplingParams) -> None:
        limit = self.args.max_num_tokens
        if not self.args.enable_chunked_prefill and prompt_tokens > limit:
            raise ValueError(
                f"The sum of prompt length ({float(prompt_tokens)}), query length (0) should not "
                f"exceed max_num_tokens ({limit})"
            )


def _with_real_signature(llm_class: type[BaseLLM]) -> None:
    """`generate_async` with exactly this release's parameters."""
    defaults = {"streaming": False, "priority": 0.5, "inputs": inspect.Parameter.empty}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=defaults.get(name))
        for name in ("self", *RELEASE["generate_async"])
    ]
    signature = inspect.Signature(
        [parameters[0].replace(default=inspect.Parameter.empty), *parameters[1:]]
    )

    def generate_async(*args: Any, **kwargs: Any) -> RequestOutput:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if not 0 <= given.get("priority", 0.5) <= 1:
            raise ValueError(f"priority must be between 0 and 1, got {given['priority']}")
        return given["self"]._generate(
            given["inputs"],
            given["sampling_params"],
            given["lora_request"],
            given.get("streaming", False),
        )

    generate_async.__signature__ = signature  # type: ignore[attr-defined]
    llm_class.generate_async = generate_async  # type: ignore[attr-defined]


def _require_devices(ranks: int) -> None:
    pynvml.nvmlInit()
    found = pynvml.nvmlDeviceGetCount()
    if found < ranks:
        raise RuntimeError(f"Only {found} GPUs are available, but {ranks} are required.")


def _require_guard(ranks: int) -> None:
    """Without the single-process setting the real one starts ranks that import the main
    program again, which must not start an engine of its own then."""
    if ranks == 1 and os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS") == "1":
        return
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path and "__name__" not in Path(path).read_text():
        raise RuntimeError(
            "Only rank 0 can submit requests.\nTo fix this, ensure that the llm.generate(...) "
            "method is guarded with the `if __name__ == '__main__':` block."
        )


_with_real_signature(PlanLLM)
_with_real_signature(TorchLLM)
#: The class of `tensorrt_llm.LLM` in this release.
DefaultLLM = TorchLLM if "pytorch_arguments" in RELEASE else PlanLLM
