"""vLLM, in this process (its engine core runs in a child). One adapter for releases from
0.10.2 on: what differs between them is looked up, not assumed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import vllm
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from contract.asked import Pooling
from contract.config import WorkerSpec
from contract.media import media_of
from contract.messages import Job, Sampling
from workers.engine import EngineReport, JobRejected
from workers.engines.prefix_cache import cache_salt
from workers.engines.prompts import Prompts
from workers.engines.shared.beginning import answer_limit
from workers.engines.shared.parsing.replay import resume
from workers.engines.shared.prompt_only import tell_prompt
from workers.engines.shared.refusals import check_purpose
from workers.engines.vllm.adapters import Adapters
from workers.engines.vllm.answer import VllmAnswer, meaning_of
from workers.engines.vllm.arguments import engine_args, is_on_cpu, known_args, set_cpu_defaults
from workers.engines.vllm.chats import chat_writer, tokenizer_of
from workers.engines.vllm.constraints import check_tag, choose_library, guided_settings, refusal
from workers.engines.vllm.load import load_reporter, look_up_once
from workers.engines.vllm.media.chats import MediaChats, VllmPrompt
from workers.engines.vllm.media.speech import Transcriber, transcriber
from workers.engines.vllm.parsing.parsers import VllmParsers
from workers.engines.vllm.pooling.pooler import PoolingModel, VllmPooler
from workers.engines.vllm.pooling.prompts import PoolingPrompts, score_template
from workers.engines.vllm.prompt_report import PromptTeller
from workers.engines.vllm.requests import REFUSALS, priority, sampling_params, trace_arguments
from workers.engines.vllm.sending import send_together
from workers.engines.vllm.shortcut import Shortcut, install, is_usual, remark_on
from workers.outbox import Outbox

log = logging.getLogger(__name__)

_LOOK_FOR_DEATH_EVERY_S: Final = 0.5


class VllmEngine:
    """Outputs are taken where vLLM's own output loop hands them over: one call per output, and
    no coroutine that wakes up per request and step."""

    continues = True

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._engine: AsyncLLM | None = None
        self._watching: asyncio.Task[None] | None = None
        self._shortcut: Shortcut | None = None
        self._adapters = Adapters(spec.model)
        self._pooler: VllmPooler | None = None
        self._transcriber: Transcriber | None = None

    async def start(self, outbox: Outbox) -> EngineReport:
        self._outbox = outbox
        self._engine = engine = self._loaded()
        config = engine.vllm_config
        self._max_model_len: int = config.model_config.max_model_len
        self._defaults: dict[str, Any] = config.model_config.get_diff_sampling_param()
        tokenizer = await tokenizer_of(engine)
        self._library = choose_library(self._spec.model, config, tokenizer)
        self._parsers = VllmParsers(self._spec.model, tokenizer, config.model_config, self._library)
        self._read_prompts(engine, tokenizer)
        if config.model_config.runner_type == "pooling":
            await self._pool_with(engine, tokenizer)
        self._watching = asyncio.create_task(self._watch())
        found = install(engine, outbox)
        self._shortcut = found if isinstance(found, Shortcut) else None
        told = [remark_on(found), send_together(engine, outbox), await self._adapters.load(engine)]
        return EngineReport(
            vllm.__version__,
            config.scheduler_config.max_num_seqs,
            self._max_model_len,
            remark="; ".join(filter(None, told)),
            takes=self._media.takes,
            transcribes=self._transcriber is not None,
        )

    def _loaded(self) -> AsyncLLM:
        """Return vLLM's engine with the model. Raises what vLLM raises."""
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        args = engine_args(self._spec, bool(self._adapters))
        if is_on_cpu(self._spec):
            set_cpu_defaults(args)
        engine = AsyncLLM.from_engine_args(
            known_args(args),
            usage_context=UsageContext.OPENAI_API_SERVER,
            stat_loggers=[load_reporter(self._outbox)],
        )
        look_up_once(engine)
        return engine

    def _read_prompts(self, engine: AsyncLLM, tokenizer: Any) -> None:
        """Make what reads text, media and speech."""
        renderer = getattr(engine, "renderer", None)
        write_suffix = getattr(renderer, "render_completion_suffix", None)
        writer = chat_writer(renderer)
        self._prompts = Prompts(
            tokenizer, self._longest_prompt, self._max_model_len, writer, write_suffix
        )
        self._media = MediaChats(renderer, self._prompts)
        if "audio" in self._media.takes:
            self._transcriber = transcriber(engine, self._outbox, self._defaults, self._broke)

    async def _pool_with(self, engine: AsyncLLM, tokenizer: Any) -> None:
        config, template = engine.vllm_config.model_config, score_template(self._spec.model)
        model = PoolingModel(config, await engine.get_supported_tasks())
        most = min(self._longest_prompt, self._max_model_len)
        inputs = PoolingPrompts(tokenizer, config, self._prompts, most, template)
        self._pooler = VllmPooler(self._outbox, model, inputs, self._add_input, self._broke)

    @property
    def _longest_prompt(self) -> int:
        return self._spec.model.max_input_len or self._max_model_len

    def read_ahead(self, jobs: Sequence[Job]) -> None:
        self._prompts.read_ahead(jobs)

    async def submit(self, job: Job) -> None:
        if self._transcriber is not None and self._transcriber.has_to_do(job):
            await self._transcriber.submit(job)
            return
        if job.report is not None and job.report.only:
            ids = (await self._prompt(job)).token_ids
            tell_prompt(job, job.report, ids, self._prompts, self._outbox)
            return
        check_purpose(job, pools=self._pooler is not None)
        if self._pooler is not None and job.pooling is not None:
            await self._pool(self._pooler, job, job.pooling)
        else:
            await self._generate(job)

    async def _prompt(self, job: Job) -> VllmPrompt:
        if media_of(job):
            return await self._media.prompt(job)
        return VllmPrompt(await self._prompts.token_ids(job))

    async def _generate(self, job: Job) -> None:
        prompt = await self._prompt(job)
        prompt_ids = prompt.token_ids
        settings = guided_settings(job.sampling.guided)
        parsing = self._parsers.of(job, prompt_ids, settings.get("structured_outputs"))
        skips = job.sampling.skip_special_tokens
        decode = partial(self._prompts.decode, skip_special_tokens=skips)
        parsed, emitted = resume(job, self._outbox, parsing, decode)
        max_tokens = self._answer_limit(job.sampling, len(prompt_ids)) - len(emitted)
        if max_tokens <= 0:
            self._outbox.done(job.id, ("length",), len(prompt_ids))
            return
        self._outbox.expect(job.id, len(prompt_ids))
        if parsing is not None:
            settings |= parsing.sampling()
        check_tag(settings.get("structured_outputs"), self._library)
        params = sampling_params(job, self._defaults, max_tokens, len(emitted), settings)
        arguments = parsing.engine_arguments if parsing is not None else {}
        answer = VllmAnswer(self._outbox, job, len(prompt_ids), parsed)
        put = self._sink(job, prompt_ids, answer)
        if self._shortcut is not None and is_usual(job):
            self._shortcut.add(job.id, answer.say())
        try:
            given = prompt.followed_by(emitted, self._salt(job))
            await self._add(job, job.id, given, params, put, **arguments)
        except JobRejected:
            self._leave_shortcut(job.id)
            raise

    async def _pool(self, pooler: VllmPooler, job: Job, asked: Pooling) -> None:
        try:
            await pooler.submit(job, asked)
        except JobRejected:
            await self.cancel(job.id)
            raise

    async def _add_input(
        self,
        job: Job,
        request_id: str,
        token_ids: list[int],
        params: Any,
        put: Callable[[Any], None],
    ) -> None:
        given = VllmPrompt(token_ids).followed_by([], self._salt(job))
        await self._add(job, request_id, given, params, put)

    async def _add(
        self,
        job: Job,
        request_id: str,
        prompt: Any,
        params: Any,
        put: Callable[[Any], None],
        **arguments: Any,
    ) -> None:
        """Have vLLM run a request, and put what comes of it."""
        try:
            collector = await self._running().add_request(
                request_id,
                prompt,
                params,
                lora_request=self._adapters.of(job),
                priority=priority(job, self._spec.model),
                **trace_arguments(job),
                **arguments,
            )
        except EngineDeadError as error:
            self._outbox.engine_died(error)
            return
        except REFUSALS as error:
            raise refusal(error, params, self._library) from error
        early = collector.get_nowait()
        collector.put = put
        if early is not None:
            put(early)

    async def cancel(self, job_id: str) -> None:
        self._leave_shortcut(job_id)
        if self._transcriber is not None and self._transcriber.cancel(job_id):
            return
        try:
            requests = self._pooler.requests_of(job_id) if self._pooler is not None else [job_id]
            await self._running().abort(requests)
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

    def _salt(self, job: Job) -> str | None:
        return cache_salt(job, self._spec.model)

    def _running(self) -> AsyncLLM:
        if self._engine is None:
            raise RuntimeError("the engine is not running")
        return self._engine

    def _sink(self, job: Job, prompt_ids: list[int], answer: VllmAnswer) -> Callable[[Any], None]:
        """Where vLLM puts the outputs of one request (or the exception that ends it)."""
        take = answer.take
        if job.report is not None:
            text = self._prompts.text_of(job, prompt_ids)
            name_of = self._prompts.decode_one
            take = PromptTeller(self._outbox, job.id, prompt_ids, text, name_of, take).take

        def put(output: Any) -> None:
            if isinstance(output, Exception):
                self._broke(job.id, output)
                return
            if output.finished:
                self._leave_shortcut(job.id)
            elif self._shortcut is not None:
                self._shortcut.miss(job.id)
            take(output)

        return put

    def _leave_shortcut(self, job_id: str) -> None:
        if self._shortcut is not None:
            self._shortcut.discard(job_id)

    def _broke(self, job_id: str, error: Exception) -> None:
        self._leave_shortcut(job_id)
        if isinstance(error, EngineDeadError) or self._running().errored:
            self._outbox.engine_died(error)
        else:
            log.error("job %s: %s", job_id, error)
            self._outbox.failed(job_id, *meaning_of(error))

    async def _watch(self) -> None:
        """An engine core that dies while idle is noticed, too."""
        engine = self._running()
        while not engine.errored:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(_LOOK_FOR_DEATH_EVERY_S)
        self._outbox.engine_died(engine.dead_error)

    def _answer_limit(self, asked: Sampling, prompt_tokens: int) -> int:
        most = asked.max_tokens or self._defaults.get("max_tokens")
        return answer_limit(self._spec.model, self._max_model_len - prompt_tokens, most)
