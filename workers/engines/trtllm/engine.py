"""TensorRT-LLM, in this process (on several GPUs its ranks run in children): plans where the
release runs them, checkpoints with its PyTorch backend otherwise."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import Any, Final

from contract.config import WorkerSpec
from contract.messages import ErrorCode, Job, Sampling
from workers.engine import EngineReport, JobRejected
from workers.engines.prefix_cache import cache_salt
from workers.engines.prompts import Prompts
from workers.engines.shared.adapters import NamedAdapters
from workers.engines.shared.beginning import Beginning, answer_limit, begin
from workers.engines.shared.checkpoints import local_directory
from workers.engines.shared.draining import Drains
from workers.engines.shared.endings import EndedBadly
from workers.engines.shared.parsing.parsers import TextParsers
from workers.engines.shared.refusals import require_plain
from workers.engines.shared.stop_strings import StopStrings
from workers.engines.trtllm.answer import TrtllmAnswer, TrtllmChoice
from workers.engines.trtllm.engine_load import report_load
from workers.engines.trtllm.library import is_dead, load_engine
from workers.engines.trtllm.model_files import ModelFiles
from workers.engines.trtllm.parsing import TrtllmParsers, known_parsers
from workers.engines.trtllm.sampling import beam_settings, sampling_settings
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_LOOK_FOR_DEATH_EVERY_S: Final = 0.5
#: Of what an adapter computes, by its lora_manager.py: it reads these, or fails by their weights.
_READ_OF_ADAPTERS: Final = (
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "bias",
    "lora_bias",
    "modules_to_save",
)


class TrtllmEngine:
    """Each choice of an answer is a request of its own: TensorRT-LLM mixes up the text of
    choices that are streamed by one."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._beam_width: int = spec.model.engine_args.get("beam_width", 1)
        #: Beams that were searched from the start would not be found again from the middle.
        self.continues = self._beam_width == 1
        self._spec = spec
        self._llm: Any = None
        self._answers: dict[str, TrtllmAnswer] = {}
        self._drains = Drains(self._ended)
        self._watching: list[asyncio.Task[None]] = []
        self._adapters = NamedAdapters(spec.model)

    async def start(self, outbox: Outbox) -> EngineReport:
        self._outbox = outbox
        self._files = files = ModelFiles(local_directory(self._spec.model.model_path))
        self._adapters.refuse_unread("TensorRT-LLM", _READ_OF_ADAPTERS)
        remark = self._adapters.remark("TensorRT-LLM")
        self._llm = llm = load_engine(self._spec, files, self._adapters.served)
        from tensorrt_llm import __version__

        model = self._spec.model
        self._max_model_len = min(model.context_len or files.context_len, files.context_len)
        longest_prompt = files.plan.longest_prompt if files.plan else self._max_model_len
        self._prompts = Prompts(
            _hugging_face(llm.tokenizer), model.max_input_len or longest_prompt, self._max_model_len
        )
        chosen = known_parsers(model)
        special = self._prompts.is_special
        library = TrtllmParsers(chosen, special, takes_tags=files.plan is None)
        self._parsers = TextParsers(chosen, library, self._prompts, files.end_ids)
        self._takes = frozenset(inspect.signature(llm.generate_async).parameters)
        self._watching = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(report_load(llm, outbox)),
        ]
        slots = int(llm.args.max_batch_size)
        return EngineReport(
            __version__,
            slots,
            self._max_model_len,
            pseudo_streaming=not self._streams,
            remark=remark,
        )

    async def submit(self, job: Job) -> None:
        require_plain(job, self._spec.engine)
        begun = await begin(job, self._prompts, self._outbox, self._answer_limit, self._parsers)
        if begun is None:
            return
        stops = StopStrings(job.sampling.stop)
        decode = begun.parsing.decode if begun.parsing is not None else self._prompts.decode
        choices = [TrtllmChoice(begun.inputs, stops, decode) for _ in range(job.sampling.n)]
        answer = self._answers[job.id] = TrtllmAnswer(
            self._outbox, job, begun.prompt_tokens, choices, begun.parsed
        )
        try:
            self._request(job, answer, begun)
        except JobRejected:
            self._give_up(job.id)
            raise
        except RuntimeError as error:
            self._outbox.engine_died(error)

    async def cancel(self, job_id: str) -> None:
        self._give_up(job_id)

    async def stop(self) -> None:
        for task in self._watching:
            task.cancel()
        await self._drains.close()
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    @property
    def _streams(self) -> bool:
        return "streaming" in self._takes and self._beam_width == 1

    def _request(self, job: Job, answer: TrtllmAnswer, begun: Beginning) -> None:
        """Ask TensorRT-LLM for every choice, and drain what comes. Raises `JobRejected`."""
        sampling = job.sampling
        if self._beam_width > 1:
            settings = beam_settings(self._settings(job, begun, 0), self._beam_width, sampling.n)
            request = self._generate(job, begun.inputs, settings)
            answer.requests.append(request)
            self._drains.start(job.id, answer.in_pieces(request, 0), answer.send)
            return
        for index in range(sampling.n):
            request = self._generate(job, begun.inputs, self._settings(job, begun, index))
            answer.requests.append(request)
            if self._streams:
                self._drains.start(job.id, request, partial(answer.take, index))
            else:
                self._drains.start(job.id, answer.in_pieces(request, index), answer.send)

    def _settings(self, job: Job, begun: Beginning, choice: int) -> dict[str, Any]:
        """Raises `JobRejected`."""
        parsing, asked = begun.parsing, job.sampling
        if parsing is not None:
            asked = parsing.sampling(asked)
        found = sampling_settings(asked, self._files, begun.max_tokens, begun.emitted, choice)
        if parsing is not None and not parsing.skips_special:
            found["skip_special_tokens"] = False
        return found

    def _generate(self, job: Job, inputs: list[int], settings: dict[str, Any]) -> Any:
        from tensorrt_llm import SamplingParams
        from tensorrt_llm.llmapi import RequestError

        options: dict[str, Any] = {"lora_request": self._lora_request(job)}
        if "streaming" in self._takes:
            options["streaming"] = self._streams
        if "cache_salt" in self._takes:
            options["cache_salt"] = cache_salt(job, self._spec.model)
        if "priority" in self._takes:
            options["priority"] = _priority(job)
        try:
            params = SamplingParams(**settings)
            return self._llm.generate_async({"prompt_token_ids": inputs}, params, **options)
        except (ValueError, TypeError, RequestError) as error:
            raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error

    def _lora_request(self, job: Job) -> Any:
        from tensorrt_llm.executor import LoRARequest

        name = self._adapters.of(job)
        if name is None:
            return None
        served = self._adapters.served
        return LoRARequest(name, list(served).index(name) + 1, served[name])

    def _answer_limit(self, asked: Sampling, prompt_tokens: int) -> int:
        most = asked.max_tokens or self._files.default_max_tokens
        return answer_limit(self._spec.model, self._max_model_len - prompt_tokens, most)

    def _give_up(self, job_id: str) -> None:
        self._drains.stop(job_id)
        answer = self._answers.pop(job_id, None)
        if answer is not None:
            answer.abort()

    def _ended(self, job_id: str, error: Exception | None) -> None:
        """All requests of a job have ended, or one has failed."""
        from tensorrt_llm.llmapi import RequestError

        answer = self._answers.pop(job_id)
        if error is None and answer.is_complete:
            return
        if error is None or isinstance(error, (RequestError, EndedBadly)):
            log.error("job %s: %s", job_id, error or "it ended without a reason")
            answer.abort()
            message, retryable = "the engine failed on this job", isinstance(error, EndedBadly)
            self._outbox.failed(job_id, ErrorCode.ENGINE_FAILED, message, retryable=retryable)
        else:
            self._outbox.engine_died(error)

    async def _watch(self) -> None:
        """An engine that dies while idle is noticed, too."""
        while not is_dead(self._llm):  # noqa: ASYNC110 - TensorRT-LLM has no event for it
            await asyncio.sleep(_LOOK_FOR_DEATH_EVERY_S)
        self._outbox.engine_died(RuntimeError("TensorRT-LLM's executor has failed"))


def _hugging_face(tokenizer: Any) -> Any:
    """TensorRT-LLM wraps the tokenizer, and hides what it does not use itself."""
    return getattr(tokenizer, "tokenizer", tokenizer)


def _priority(job: Job) -> float:
    """Ours: 0 is usual, lower comes first. Theirs: 0.5 is usual, higher comes first."""
    return min(1.0, max(0.0, 0.5 - job.turn.number / 200))
