"""vLLM, in this process (its engine core runs in a child). One adapter for releases from
0.10.2 on: what differs between them is looked up, not assumed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import vllm
from msgspec.structs import replace
from vllm import AsyncEngineArgs, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase

from contract.config import ModelConfig, WorkerSpec
from contract.engines import declaration_of
from contract.messages import Embedding, ErrorCode, Guided, Job, Sampling
from workers.continuation import resume_point
from workers.engine import EngineReport, JobRejected
from workers.engines.arguments import known
from workers.engines.prefix_cache import cache_salt
from workers.engines.prompts import ChatWriter, Prompts, Turns, choices_of
from workers.engines.vllm_answer import VllmAnswer
from workers.engines.vllm_embeddings import VllmEmbeddings, check_purpose, pooling_params
from workers.engines.vllm_parsing import ParsedChoice, Parsers, Parsing
from workers.outbox import EngineLoad, Outbox

try:
    from vllm import exceptions as vllm_exceptions
except ImportError:  # Before 0.20.
    vllm_exceptions = None

log = logging.getLogger(__name__)

#: What vLLM raises for a request that it will not run: an error of its own in newer releases.
_REFUSALS: Final = (ValueError, TypeError, getattr(vllm_exceptions, "VLLMClientError", ValueError))
_LOOK_FOR_DEATH_EVERY_S: Final = 0.5
_CPU_KV_CACHE_GIB: Final = "2"
#: On the CPU, vLLM 0.32 takes the name `uni` for `mp`, which costs a process, its start, and the
#: waiting for it at each step. The class it takes as it is.
_IN_ONE_PROCESS: Final = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
_CPU_PROCESS: Final = "workers.engines.vllm_cpu_process.CpuProcess"


class VllmEngine:
    """Outputs are taken where vLLM's own output loop hands them over: one call per output, and
    no coroutine that wakes up per request and step."""

    continues = True

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._engine: AsyncLLM | None = None
        self._watching: asyncio.Task[None] | None = None
        self._adapters = _adapters(spec.model)
        #: By job, the requests of its embeddings that vLLM has not answered all of.
        self._embedding: dict[str, list[str]] = {}

    async def start(self, outbox: Outbox) -> EngineReport:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        args = engine_args(self._spec, bool(self._adapters))
        if _is_on_cpu(self._spec):
            _set_cpu_defaults(args)
        self._outbox = outbox
        self._engine = engine = AsyncLLM.from_engine_args(
            _known_args(args),
            usage_context=UsageContext.OPENAI_API_SERVER,
            stat_loggers=[_load_reporter(outbox)],
        )
        config = engine.vllm_config
        self._max_model_len: int = config.model_config.max_model_len
        self._makes_vectors = config.model_config.runner_type == "pooling"
        self._defaults: dict[str, Any] = config.model_config.get_diff_sampling_param()
        tokenizer = await _tokenizer(engine)
        limit = self._spec.model.max_input_len or self._max_model_len
        write_chat = chat_writer(getattr(engine, "renderer", None))
        self._prompts = Prompts(tokenizer, limit, self._max_model_len, write_chat)
        self._parsers = Parsers(self._spec.model, tokenizer, config.model_config)
        self._watching = asyncio.create_task(self._watch())
        slots = config.scheduler_config.max_num_seqs
        return EngineReport(vllm.__version__, slots, self._max_model_len)

    async def submit(self, job: Job) -> None:
        check_purpose(job, makes_vectors=self._makes_vectors)
        if job.embedding is not None:
            await self._embed(job, job.embedding)
        else:
            await self._generate(job)

    async def _generate(self, job: Job) -> None:
        prompt_ids = await self._prompts.token_ids(job)
        settings = _guided(job.sampling.guided)
        parsing = self._parsers.of(job, prompt_ids, settings.get("structured_outputs"))
        parsed, emitted = self._resume(job, parsing)
        max_tokens = self._answer_limit(job.sampling, len(prompt_ids)) - len(emitted)
        if max_tokens <= 0:
            self._outbox.done(job.id, ("length",), len(prompt_ids))
            return
        self._outbox.expect(job.id, len(prompt_ids))
        if parsing is not None:
            settings |= parsing.sampling()
        params = self._sampling_params(job.sampling, max_tokens, len(emitted), settings)
        arguments = parsing.engine_arguments if parsing is not None else {}
        put = self._sink(job, len(prompt_ids), parsed)
        await self._add(job, job.id, prompt_ids + emitted, params, put, **arguments)

    async def _embed(self, job: Job, asked: Embedding) -> None:
        prompts = [await self._prompts.token_ids(_input_job(job, each)) for each in asked.inputs]
        params = pooling_params(asked)
        broke, ended = partial(self._broke, job.id), partial(self._embedding.pop, job.id, None)
        answer = VllmEmbeddings(self._outbox, job, asked, broke, ended)
        ids = self._embedding[job.id] = [f"{job.id}.{number}" for number in range(len(prompts))]
        for number, (request_id, prompt_ids) in enumerate(zip(ids, prompts, strict=True)):
            await self._add(job, request_id, prompt_ids, params, answer.sink(number))

    async def _add(
        self,
        job: Job,
        request_id: str,
        prompt_ids: list[int],
        params: Any,
        put: Callable[[Any], None],
        **arguments: Any,
    ) -> None:
        """Have vLLM run a request, and put what comes of it."""
        try:
            collector = await self._running().add_request(
                request_id,
                _tokens_prompt(prompt_ids, cache_salt(job, self._spec.model)),
                params,
                lora_request=self._lora_request(job),
                priority=job.priority,
                **arguments,
            )
        except EngineDeadError as error:
            self._outbox.engine_died(error)
            return
        except _REFUSALS as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error
        early = collector.get_nowait()
        collector.put = put
        if early is not None:
            put(early)

    def _resume(self, job: Job, parsing: Parsing | None) -> tuple[list[ParsedChoice], list[int]]:
        """What reads the answer, and the tokens of it that go before those to come."""
        fresh = [ParsedChoice(parsing) for _ in range(job.sampling.n)] if parsing else []
        if not (job.sent or job.emitted):
            return fresh, []
        if parsing is None:
            skips = job.sampling.skip_special_tokens
            decode = partial(self._prompts.decode, skip_special_tokens=skips)
            keep, again = resume_point(decode, job.emitted, job.sent)
            self._outbox.suppress(job.id, again, keep)
            return fresh, list(job.emitted[:keep])
        if parsing.is_constrained:
            self._outbox.suppress(job.id, job.sent)
            return fresh, []
        replay = parsing.replay(job.emitted, job.sent)
        self._outbox.suppress(job.id, replay.again, replay.keep, replay.after)
        return [replay.parsed], list(job.emitted[: replay.keep])

    async def cancel(self, job_id: str) -> None:
        try:
            await self._running().abort(self._embedding.pop(job_id, job_id))
        except EngineDeadError as error:
            self._outbox.engine_died(error)

    async def sleep(self) -> None:
        await self._running().sleep(level=1)

    async def wake(self) -> None:
        await self._running().wake_up()

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    def _running(self) -> AsyncLLM:
        if self._engine is None:
            raise RuntimeError("the engine is not running")
        return self._engine

    def _sink(
        self, job: Job, prompt_tokens: int, parsed: list[ParsedChoice]
    ) -> Callable[[Any], None]:
        """Where vLLM puts the outputs of one request (or the exception that ends it)."""
        answer = VllmAnswer(self._outbox, job, prompt_tokens, parsed)

        def put(output: Any) -> None:
            if isinstance(output, Exception):
                self._broke(job.id, output)
            else:
                answer.take(output)

        return put

    def _broke(self, job_id: str, error: Exception) -> None:
        if isinstance(error, EngineDeadError) or self._running().errored:
            self._outbox.engine_died(error)
        else:
            log.error("job %s: %s", job_id, error)
            self._outbox.failed(job_id, ErrorCode.ENGINE_FAILED, "the engine failed on this job")

    async def _watch(self) -> None:
        """An engine core that dies while idle is noticed, too."""
        engine = self._running()
        while not engine.errored:  # noqa: ASYNC110 - vLLM tells nobody
            await asyncio.sleep(_LOOK_FOR_DEATH_EVERY_S)
        self._outbox.engine_died(engine.dead_error)

    def _answer_limit(self, asked: Sampling, prompt_tokens: int) -> int:
        """The most tokens that an answer may have, by the request, the model and its context."""
        room = self._max_model_len - prompt_tokens
        limit = min(room, self._spec.model.max_output_len or room)
        return min(limit, asked.max_tokens or self._defaults.get("max_tokens") or limit)

    def _sampling_params(
        self, asked: Sampling, max_tokens: int, emitted: int, more: dict[str, Any]
    ) -> SamplingParams:
        given = {name: getattr(asked, name) for name in _SAMPLING_FIELDS}
        settings = {**self._defaults, **{k: v for k, v in given.items() if v is not None}}
        settings |= {
            "max_tokens": max_tokens,
            "min_tokens": max(0, asked.min_tokens - emitted),
            "stop": list(asked.stop) or None,
            "ignore_eos": asked.ignore_eos,
            "n": asked.n,
            "output_kind": RequestOutputKind.DELTA,
        }
        settings |= {name: list(getattr(asked, name)) for name in _LISTS if getattr(asked, name)}
        try:
            return SamplingParams(**settings | more)
        except _REFUSALS as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error

    def _lora_request(self, job: Job) -> LoRARequest | None:
        if job.adapter is None:
            return next(iter(self._adapters.values())) if self._spec.model.adapter_path else None
        if job.adapter not in self._adapters:
            known = ", ".join(f"`{name}`" for name in self._adapters) or "none"
            message = f"no adapter `{job.adapter}`; this model has {known}"
            raise JobRejected(ErrorCode.INVALID_REQUEST, message)
        return self._adapters[job.adapter]


def _input_job(job: Job, given: str | tuple[int, ...]) -> Job:
    """The job whose prompt is one input."""
    if isinstance(given, str):
        return replace(job, prompt=given)
    return replace(job, prompt_ids=given)


_SAMPLING_FIELDS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logprobs",
    "logit_bias",
    "include_stop_str_in_output",
    "skip_special_tokens",
)
_LISTS: Final = ("stop_token_ids", "bad_words", "allowed_token_ids")


def engine_args(spec: WorkerSpec, with_adapters: bool) -> dict[str, Any]:
    """The arguments of vLLM's engine that a worker's configuration asks for."""
    model = spec.model
    args: dict[str, Any] = {
        "model": model.model_path,
        "dtype": model.dtype,
        "max_model_len": model.context_len,
        "max_num_seqs": model.max_batch_size,
        "tensor_parallel_size": model.tensor_parallel_size,
        "pipeline_parallel_size": model.pipeline_parallel_size,
        "quantization": model.quantization,
        "trust_remote_code": model.trust_remote_code,
        "gpu_memory_utilization": spec.gpu_memory_fraction or model.gpu_memory_utilization,
        "kv_cache_memory_bytes": spec.kv_cache_bytes,
        "enable_lora": with_adapters or None,
        "max_loras": _adapter_places(spec) if with_adapters else None,
        "reasoning_parser": model.reasoning_parser,
        "enable_sleep_mode": (model.sleep and declaration_of(spec.engine).can_sleep) or None,
    }
    args = {name: value for name, value in args.items() if value is not None} | model.engine_args
    is_whole = model.tensor_parallel_size == model.pipeline_parallel_size == 1
    wants_one = args.get("distributed_executor_backend") == "uni"
    # A model in parts would wait for ever for the processes that compute its other parts.
    if _is_on_cpu(spec) and is_whole and wants_one:
        args["distributed_executor_backend"] = _IN_ONE_PROCESS
    return args


def _is_on_cpu(spec: WorkerSpec) -> bool:
    return declaration_of(spec.engine).device == "cpu"


def _set_cpu_defaults(args: dict[str, Any]) -> None:
    """Where nobody has set it."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_CACHE_GIB)
    args.setdefault("worker_extension_cls", _CPU_PROCESS)
    if args.get("distributed_executor_backend") == _IN_ONE_PROCESS:
        # As vLLM itself does for a process that only computes: one core is for all the rest.
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1)))


def _adapter_places(spec: WorkerSpec) -> int:
    """One for each adapter. On a CPU, vLLM 0.32 applies what is in the last place also to jobs
    without an adapter that run beside others: there, the last place stays empty."""
    adapters = max(1, len(spec.model.adapters))
    return adapters + 1 if _is_on_cpu(spec) else adapters


def _known_args(args: dict[str, Any]) -> AsyncEngineArgs:
    return AsyncEngineArgs(**known(args, AsyncEngineArgs, f"vLLM {vllm.__version__}"))


def _guided(guided: Guided | None) -> dict[str, Any]:
    """The argument of `SamplingParams` that constrains the output, as this release names it."""
    if guided is None:
        return {}
    value: Any = guided.value
    match guided.kind:
        case "json_object":
            value = True
        case "choice":
            value = choices_of(guided.value)
        case "json":
            value = json.loads(guided.value)
    try:
        from vllm.sampling_params import StructuredOutputsParams
    except ImportError:
        from vllm.sampling_params import GuidedDecodingParams

        return {"guided_decoding": GuidedDecodingParams(**{guided.kind: value})}
    return {"structured_outputs": StructuredOutputsParams(**{guided.kind: value})}


def _tokens_prompt(token_ids: list[int], salt: str | None) -> Any:
    try:
        from vllm.inputs import tokens_input
    except ImportError:
        from vllm.inputs import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=token_ids)
        return prompt if salt is None else TokensPrompt(**prompt, cache_salt=salt)
    return tokens_input(token_ids, cache_salt=salt)


async def _tokenizer(engine: AsyncLLM) -> Any:
    """vLLM's own Hugging Face tokenizer; releases differ in whether it must be awaited."""
    found: Any = engine.get_tokenizer()
    return await found if asyncio.iscoroutine(found) else found


def chat_writer(renderer: Any) -> ChatWriter | None:
    """vLLM's own way to write a chat, where it is not by a Hugging Face template (Mistral's
    tokenizers, DeepSeek V3.2, ...). Older releases have no renderers."""
    if renderer is None or type(renderer).__name__ == "HfRenderer":
        return None
    from vllm.renderers import ChatParams

    def write(turns: Turns, arguments: dict[str, Any]) -> list[int]:
        params = ChatParams(chat_template_kwargs=arguments)
        _, prompts = renderer.render_chat([turns], params)
        return list(prompts[0]["prompt_token_ids"])

    return write


def _adapters(model: ModelConfig) -> dict[str, LoRARequest]:
    paths = dict(model.adapters)
    if model.adapter_path:
        paths = {"default": model.adapter_path, **paths}
    return {
        name: LoRARequest(name, number, path)
        for number, (name, path) in enumerate(paths.items(), start=1)
    }


def _load_reporter(outbox: Outbox) -> Any:
    """A stat logger of vLLM that tells the outbox how busy the engine is."""

    class LoadReporter(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._queries = 0
            self._hits = 0

        def record(self, scheduler_stats: Any = None, *_: Any, **__: Any) -> None:
            if scheduler_stats is None:
                return
            prefix = getattr(scheduler_stats, "prefix_cache_stats", None)
            if prefix is not None:
                self._queries += prefix.queries
                self._hits += prefix.hits
            outbox.report_load(
                EngineLoad(
                    scheduler_stats.num_waiting_reqs,
                    scheduler_stats.kv_cache_usage,
                    self._queries,
                    self._hits,
                )
            )

        def log_engine_initialized(self) -> None:
            """vLLM logs its configuration itself."""

    return LoadReporter
