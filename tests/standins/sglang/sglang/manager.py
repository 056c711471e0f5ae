"""The tokenizer manager: what runs in the caller's process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from vllm import AsyncEngineArgs, PoolingParams
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM

from sglang.srt.managers.io_struct import EmbeddingReqInput

from .sampling import Refused, sampling_params

_KEPT_BACK = 5
_ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


class ModelConfig:
    def __init__(self, defaults: dict[str, Any], hf_config: Any) -> None:
        self._defaults = defaults
        ends = hf_config.eos_token_id
        self.hf_eos_token_id = {ends} if isinstance(ends, int) else set(ends or ())

    def get_default_sampling_params(self) -> dict[str, Any]:
        return dict(self._defaults)


class TokenizerManager:
    def __init__(self, args: Any) -> None:
        from transformers import AutoTokenizer

        self._args = args
        paths: dict[str, str] = args.lora_paths or {}
        self._adapters = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(paths.items(), start=1)
        }
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=args.model_path,
                dtype=args.dtype,
                max_model_len=args.context_length,
                max_num_seqs=args.max_running_requests,
                enforce_eager=True,
                **({"runner": "pooling", "convert": "embed"} if args.is_embedding else {}),
                distributed_executor_backend=_ONE_PROCESS,
                worker_extension_cls="workers.engines.vllm.cpu_process.CpuProcess",
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                enable_lora=bool(paths),
                # The last place must stay empty: see docs of the adapter for vLLM.
                max_loras=len(paths) + 1,
            )
        )
        self.is_generation = not args.is_embedding
        config = self._llm.vllm_config.model_config
        self.context_len: int = config.max_model_len
        self.model_config = ModelConfig(config.get_diff_sampling_param(), config.hf_config)
        self.tokenizer = AutoTokenizer.from_pretrained(args.model_path)
        self._running: dict[str, asyncio.Event] = {}
        self._has_memory = True
        self._owns_signals = False

    def auto_create_handle_loop(self) -> None:
        """As in the real one: with the first request, and once."""
        if self._owns_signals:
            return
        self._owns_signals = True
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(name, os._exit, 99)

    def abort_request(self, rid: str = "", abort_all: bool = False) -> None:
        if not abort_all and rid not in self._running:
            return
        for each, aborted in self._running.items():
            if abort_all or each.startswith(rid):
                aborted.set()

    async def release_memory_occupation(self, obj: Any, request: Any = None) -> None:
        assert self._args.enable_memory_saver and not self._running
        self._has_memory = False

    async def resume_memory_occupation(self, obj: Any, request: Any = None) -> None:
        assert self._args.enable_weights_cpu_backup and not self._has_memory
        self._has_memory = True

    def shutdown(self) -> None:
        self._llm.shutdown()

    async def generate_request(
        self, obj: Any, request: Any = None
    ) -> AsyncIterator[dict[str, Any]]:
        assert self._has_memory, "it sleeps"
        self.auto_create_handle_loop()
        if isinstance(obj, EmbeddingReqInput):
            yield await self._embed(obj)
            return
        self._running[obj.rid] = asyncio.Event()
        try:
            async with aclosing(self._generate(obj)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            del self._running[obj.rid]

    async def _generate(self, obj: Any) -> AsyncIterator[dict[str, Any]]:
        prompt = len(obj.input_ids)
        if prompt >= self.context_len:
            raise ValueError(f"The input ({prompt} tokens) is longer than the model's context")
        longest = self.context_len - 1
        if prompt >= longest - _KEPT_BACK:
            yield _aborted("Input length exceeds the maximum allowed length", obj)
            return
        adapter = self._adapter(obj.lora_path)
        asked = dict(obj.sampling_params)
        asked["max_new_tokens"] = min(asked.get("max_new_tokens", 128), longest - prompt - 1)
        try:
            params = sampling_params(asked, obj, seeds=self._args.enable_deterministic_inference)
            answers = self._llm.generate(
                {"prompt_token_ids": obj.input_ids}, params, obj.rid, lora_request=adapter
            )
            keeps_special = not asked.get("skip_special_tokens", True)
            name_of = self.tokenizer.decode if keeps_special else None
            async for output in _outputs(answers, obj, self._running[obj.rid], name_of):
                yield output
        except Refused as error:
            yield _aborted(str(error), obj)

    async def _embed(self, obj: EmbeddingReqInput) -> dict[str, Any]:
        if self.is_generation:
            raise ValueError("This model does not appear to be an embedding model by default.")
        params = PoolingParams(task="embed", dimensions=obj.dimensions)
        prompt = {"prompt_token_ids": obj.input_ids}
        adapter = self._adapter(obj.lora_path)
        async for output in self._llm.encode(prompt, params, obj.rid, lora_request=adapter):
            vector = output.outputs.data.float().tolist()
        meta = {"id": obj.rid, "prompt_tokens": len(obj.input_ids or ()), "finish_reason": None}
        return {"embedding": vector, "meta_info": meta}

    def _adapter(self, name: str | None) -> LoRARequest | None:
        if name is None:
            return None
        if name not in self._adapters:
            raise ValueError(f"Got LoRA adapter that has never been loaded: {name}")
        return self._adapters[name]


async def _outputs(
    answers: AsyncIterator[Any], obj: Any, aborted: asyncio.Event, name_of: Any
) -> AsyncIterator[dict[str, Any]]:
    stops = obj.sampling_params.get("stop") or []
    said, tokens = "", 0
    try:
        async for answer in answers:
            choice = answer.outputs[0]
            tokens += len(choice.token_ids)
            text, finish = choice.text, _finish(choice, tokens)
            if choice.finish_reason == "stop" and name_of is not None:
                # The token that ends an answer stays where no stop is trimmed.
                text += name_of([choice.token_ids[-1]])
            found = _first_stop(said + text, stops)
            if found is not None:
                end = (said + text).find(found) + len(found)
                text = (said + text)[len(said) : end]
                finish = {"type": "stop", "matched": found}
            if aborted.is_set():
                finish = {"type": "abort", "message": "Aborted", "status_code": None}
            said += text
            yield {
                "text": text,
                "output_ids": list(choice.token_ids),
                "meta_info": {
                    "id": obj.rid,
                    "finish_reason": finish,
                    "prompt_tokens": len(obj.input_ids),
                    "completion_tokens": tokens,
                    "cached_tokens": answer.num_cached_tokens or 0,
                    **(_logprobs(choice, obj.top_logprobs_num) if obj.return_logprob else {}),
                },
            }
            if finish is not None:
                return
    except (ValueError, VLLMClientError) as error:
        # Of vLLM, for what SGLang finds out when the request is there already.
        raise Refused(str(error)) from error


def _first_stop(text: str, stops: list[str]) -> str | None:
    return next((stop for stop in stops if stop in text), None)


def _finish(choice: Any, tokens: int) -> dict[str, Any] | None:
    if choice.finish_reason == "stop":
        return {"type": "stop", "matched": choice.token_ids[-1]}
    return choice.finish_reason and {"type": choice.finish_reason, "length": tokens}


def _logprobs(choice: Any, most: int) -> dict[str, Any]:
    """Of the new tokens, as `(log probability, token, None)`."""
    chosen, top = [], []
    for token, chances in zip(choice.token_ids, choice.logprobs, strict=True):
        chosen.append((chances[token].logprob, token, None))
        ranked = sorted(chances.items(), key=lambda each: -each[1].logprob)[:most]
        top.append([(chance.logprob, other, None) for other, chance in ranked])
    return {"output_token_logprobs": chosen} | ({"output_top_logprobs": top} if most else {})


def _aborted(message: str, obj: Any) -> dict[str, Any]:
    finish = {"type": "abort", "message": message, "status_code": 400, "err_type": "BadRequest"}
    return {"text": "", "output_ids": [], "meta_info": {"id": obj.rid, "finish_reason": finish}}
