"""SGLang, in this process (its scheduler and detokenizer run in children). Written against the
sources of 0.5.23, whose signatures tests/engines/test_sglang_signatures.py holds it to."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from functools import partial
from typing import Any, Final
from uuid import uuid4

import sglang

from contract.asked import Pooling
from contract.config import WorkerSpec
from contract.messages import ErrorCode, Job, Sampling
from contract.process.logs import configure_logging
from workers.engine import EngineReport
from workers.engines.prefix_cache import cache_salt
from workers.engines.prompts import Prompts
from workers.engines.sglang.answer import SglangAnswer, SglangChoice
from workers.engines.sglang.arguments import CONTEXT_MARGIN, server_arguments
from workers.engines.sglang.parsing import SglangParsers, known_parsers
from workers.engines.sglang.pooling import SglangEmbeddings, encode, inputs_of
from workers.engines.sglang.sampling import sampling_settings
from workers.engines.shared.adapters import NamedAdapters
from workers.engines.shared.beginning import Beginning, answer_limit, begin
from workers.engines.shared.draining import Drains
from workers.engines.shared.endings import EndedBadly
from workers.engines.shared.parsing.parsers import TextParsers
from workers.engines.shared.refusals import check_purpose, require_plain
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_LOOK_FOR_DEATH_EVERY_S: Final = 0.5


class SglangEngine:
    """Each choice of an answer is a request of its own, so that each can be seeded and aborted."""

    continues = True

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._engine: Any = None
        self._answers: dict[str, SglangAnswer | SglangEmbeddings] = {}
        self._drains = Drains(self._ended)
        self._watching: asyncio.Task[None] | None = None
        self._adapters = NamedAdapters(spec.model)

    async def start(self, outbox: Outbox) -> EngineReport:
        self._outbox = outbox
        chosen = known_parsers(self._spec.model)
        # It reads `r` and `lora_alpha` alone, and would end at a start with DoRA.
        self._adapters.refuse_unread("SGLang")
        remark = self._adapters.remark("SGLang")
        arguments = server_arguments(self._spec, self._adapters.served, chosen.reasoning)
        log.info("SGLang %s: Engine(%s)", sglang.__version__, arguments)
        self._engine = sglang.Engine(**arguments, custom_sigquit_handler=_child_failed)
        # It has put its own in place of all handlers of logs.
        configure_logging(self._spec.name)
        self._manager: Any = self._engine.tokenizer_manager
        # It takes SIGTERM and SIGQUIT with its first request; the worker takes them after this.
        self._manager.auto_create_handle_loop()
        self._defaults = sampling_defaults(self._manager.model_config)
        self._is_seeded = bool(arguments.get("enable_deterministic_inference"))
        room = int(self._manager.context_len) - CONTEXT_MARGIN
        self._max_model_len = min(self._spec.model.context_len or room, room)
        limit = self._spec.model.max_input_len or self._max_model_len
        tokenizer = self._manager.tokenizer
        self._prompts = Prompts(tokenizer, limit, self._max_model_len)
        library = SglangParsers(chosen, tokenizer)
        self._parsers = TextParsers(chosen, library, self._prompts, end_ids_of(self._manager))
        self._watching = asyncio.create_task(self._watch(multiprocessing.active_children()))
        slots = int(arguments["max_running_requests"])
        return EngineReport(sglang.__version__, slots, self._max_model_len, remark=remark)

    async def submit(self, job: Job) -> None:
        pools = not self._manager.is_generation
        if job.report is None:
            check_purpose(job, pools=pools)
        if job.pooling is not None:
            await self._embed(job, job.pooling)
            return
        require_plain(job, self._spec.engine)
        begun = await begin(job, self._prompts, self._outbox, self._answer_limit, self._parsers)
        if begun is None:
            return
        settings = [self._settings(job, begun, choice) for choice in range(job.sampling.n)]
        adapter = self._adapters.of(job)
        choices = [SglangChoice(job.sampling.stop, self._prompts.decode) for _ in settings]
        answer = SglangAnswer(self._outbox, job, begun.prompt_tokens, choices, begun.parsed)
        self._answers[job.id] = answer
        for index, each in enumerate(settings):
            request = await self._generate(job, begun, each, adapter)
            self._drains.start(job.id, request, partial(answer.take, index))

    async def _embed(self, job: Job, asked: Pooling) -> None:
        inputs = await inputs_of(job, asked, self._prompts)
        adapter = self._adapters.of(job)
        answer = SglangEmbeddings(self._outbox, job, asked, len(inputs))
        self._answers[job.id] = answer
        self._outbox.expect(job.id, sum(map(len, inputs)))
        for number, each in enumerate(inputs):
            outputs = encode(self._manager, each, asked, adapter)
            self._drains.start(job.id, outputs, partial(answer.take, number))

    async def cancel(self, job_id: str) -> None:
        # A request whose iterator is closed is aborted.
        self._answers.pop(job_id, None)
        self._drains.stop(job_id)

    async def sleep(self) -> None:
        from sglang.srt.managers.io_struct import ReleaseMemoryOccupationReqInput

        await self._manager.release_memory_occupation(ReleaseMemoryOccupationReqInput(), None)

    async def wake(self) -> None:
        from sglang.srt.managers.io_struct import ResumeMemoryOccupationReqInput

        await self._manager.resume_memory_occupation(ResumeMemoryOccupationReqInput(), None)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await self._drains.close()
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None

    def _settings(self, job: Job, begun: Beginning, choice: int) -> dict[str, Any]:
        parsing, asked = begun.parsing, job.sampling
        if parsing is not None:
            asked = parsing.sampling(asked)
        settings = sampling_settings(asked, self._defaults, begun.max_tokens, begun.emitted)
        if parsing is not None and not parsing.skips_special:
            settings["skip_special_tokens"] = False
        if self._is_seeded:
            # Those without a seed would all get the same one.
            seed = uuid4().int if asked.seed is None else asked.seed + choice
            settings["sampling_seed"] = seed % 2**63
        return settings

    async def _generate(
        self, job: Job, begun: Beginning, settings: dict[str, Any], adapter: str | None
    ) -> Any:
        """Return the iterator of one choice's outputs. SGLang aborts all requests whose id
        begins with the one that is given, so that all ids have one length."""
        logprobs = job.sampling.logprobs
        return await self._engine.async_generate(
            input_ids=begun.inputs,
            sampling_params=settings,
            return_logprob=logprobs is not None,
            top_logprobs_num=logprobs or 0,
            lora_path=adapter,
            require_reasoning=begun.parsing is not None and begun.parsing.thinks_first,
            stream=True,
            rid=uuid4().hex,
            cache_salt=cache_salt(job, self._spec.model),
        )

    def _answer_limit(self, asked: Sampling, prompt_tokens: int) -> int:
        return answer_limit(self._spec.model, self._max_model_len - prompt_tokens, asked.max_tokens)

    def _ended(self, job_id: str, error: Exception | None) -> None:
        """All requests of a job have ended, or one has failed."""
        answer = self._answers.pop(job_id, None)
        if answer is None or (error is None and answer.is_complete):
            return
        if isinstance(error, ValueError):
            self._outbox.failed(job_id, ErrorCode.INVALID_REQUEST, str(error))
            return
        log.error("job %s: %r", job_id, error or "it ended without a reason")
        message, retryable = "the engine failed on this job", isinstance(error, EndedBadly)
        self._outbox.failed(job_id, ErrorCode.ENGINE_FAILED, message, retryable=retryable)

    async def _watch(self, processes: list[Any]) -> None:
        """SGLang's own answer to a child that died is to kill this process."""
        while all(process.is_alive() for process in processes):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_FOR_DEATH_EVERY_S)
        self._outbox.engine_died(RuntimeError("a process of SGLang has ended"))


def end_ids_of(manager: Any) -> set[int]:
    """Return the tokens that end answers, as SGLang finds them."""
    ids = set(manager.model_config.hf_eos_token_id or ())
    own = manager.tokenizer.eos_token_id
    return ids if own is None else ids | {own}


def sampling_defaults(model_config: Any) -> dict[str, Any]:
    """Return what the model's own generation config says; SGLang asks it in its server alone."""
    found: dict[str, Any] = model_config.get_default_sampling_params()
    return found


def _child_failed(*_: Any) -> None:
    """While SGLang starts, a child that fails sends SIGQUIT. It would kill the worker, too."""
    raise RuntimeError("a process of SGLang failed while it started; the log has its words")
