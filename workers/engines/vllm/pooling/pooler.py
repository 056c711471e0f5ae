"""Vectors, classes and scores by vLLM: each input, or pair of inputs, is a request of its own, and
the answer comes when all have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from contract.asked import Pooling
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected
from workers.engines.shared.deltas import Pooled, pooled_deltas
from workers.engines.shared.scores import cosines, packed, pairs
from workers.engines.vllm.pooling.prompts import PoolingPrompts
from workers.outbox import Outbox

#: As vLLM 0.32 chooses what a model is served for, if it can do several.
_TASKS: Final = ("embed", "classify", "token_embed", "token_classify")
#: Architectures that vLLM reads all texts at once for.
_OTHER_ARCHITECTURES: Final = ("JinaForRanking",)
#: Runs a request of a job: its id, tokens and parameters, and where its output goes.
Run = Callable[[Job, str, list[int], Any, Callable[[Any], None]], Awaitable[None]]


class PoolingModel:
    """A pooling model, and the task that it is served for."""

    def __init__(self, config: Any, supported: tuple[str, ...]) -> None:
        self._config = config
        self._supported = supported
        choose = getattr(config, "get_pooling_task", None)
        found = (task for task in _TASKS if task in supported)
        self.task: str = (choose and choose(supported)) or next(found, "")
        self.labels: dict[int, str] = getattr(config.hf_config, "id2label", None) or {}

    @property
    def reads_pairs(self) -> bool:
        """Whether it scores two texts at once: it is a cross-encoder."""
        return self.task == "classify"

    def params(self, asked: Pooling) -> Any:
        """Return vLLM's parameters. Raises `JobRejected` for what this model is not made for."""
        from vllm import PoolingParams

        task = self._task_for(asked)
        given = {"dimensions": asked.dimensions, "use_activation": asked.activation}
        return PoolingParams(task=task, **{k: v for k, v in given.items() if v is not None})

    def _task_for(self, asked: Pooling) -> str:
        if asked.task == "score":
            return self._scoring_task()
        if asked.task in ("any", self.task):
            return self.task
        if asked.task in self._supported:
            how = f'`"engine_args": {{"pooler_config": {{"task": "{asked.task}"}}}}`'
            message = f"this model is served for `{self.task}`; for `{asked.task}`, set {how}"
        else:
            message = f"this model is made for `{self.task}`, and not for `{asked.task}`"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)

    def _scoring_task(self) -> str:
        """As vLLM 0.32: cross-encoders have one class, which says how relevant a text is."""
        classes = getattr(self._config.hf_config, "num_labels", 0)
        if self._config.architecture in _OTHER_ARCHITECTURES:
            message = f"ew cannot score with models of {self._config.architecture}"
        elif self.task == "token_classify":
            message = "this model labels tokens: it makes no scores; ask `/pooling`"
        elif self.task == "classify" and classes != 1:
            message = f"this model has {classes} classes, and makes no scores; ask `/classify`"
        else:
            return "score" if self.reads_pairs and "score" in self._supported else self.task
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)


class VllmPooler:
    """The pooling jobs of an engine. `broke` is told of a request that vLLM failed on."""

    def __init__(
        self,
        outbox: Outbox,
        model: PoolingModel,
        prompts: PoolingPrompts,
        run: Run,
        broke: Callable[[str, Exception], None],
    ) -> None:
        self._outbox = outbox
        self._model = model
        self._prompts = prompts
        self._run = run
        self._broke = broke
        #: By job, the requests that vLLM has not answered all of.
        self._open: dict[str, list[str]] = {}

    async def submit(self, job: Job, asked: Pooling) -> None:
        """Have vLLM run what a job asks. Raises `JobRejected`; what was begun of it goes on until
        `requests_of` it are aborted."""
        params = self._model.params(asked)
        in_pairs = asked.task == "score" and self._model.reads_pairs
        read = self._prompts.of_pairs if in_pairs else self._prompts.of
        prompts = await read(job, asked)
        answer = _Answer(self._outbox, job, asked, self._model, len(prompts))
        ids = self._open[job.id] = [f"{job.id}.{number}" for number in range(len(prompts))]
        for number, (request_id, prompt) in enumerate(zip(ids, prompts, strict=True)):
            of_pair = params
            if prompt.second is not None:
                of_pair = params.clone()
                of_pair.extra_kwargs = {"compressed_token_type_ids": prompt.second}
            put = partial(self._put, job.id, answer, number)
            await self._run(job, request_id, prompt.ids, of_pair, put)

    def requests_of(self, job_id: str) -> list[str]:
        """Return the requests of a job that vLLM may still run, and forget them."""
        return self._open.pop(job_id, [])

    def _put(self, job_id: str, answer: _Answer, number: int, output: Any) -> None:
        """Take the output of an input, or the exception that ends it."""
        error = output if isinstance(output, Exception) else getattr(output, "error", None)
        if error is not None:
            self.requests_of(job_id)
            self._broke(job_id, error if isinstance(error, Exception) else RuntimeError(str(error)))
        elif output.finished and answer.take(number, output):
            self.requests_of(job_id)


class _Answer:
    """The answer to one job, as far as it has come."""

    def __init__(
        self, outbox: Outbox, job: Job, asked: Pooling, model: PoolingModel, parts: int
    ) -> None:
        self._outbox = outbox
        self._job_id = job.id
        self._asked = asked
        self._model = model
        self._parts: list[Any] = [None] * parts
        self._missing = parts
        self._prompt_tokens = 0

    def take(self, number: int, output: Any) -> bool:
        """Take one part. Returns whether it was the last, and the answer is complete."""
        self._parts[number] = output.outputs.data.float().cpu()
        self._prompt_tokens += len(output.prompt_token_ids)
        self._missing -= 1
        if self._missing:
            return False
        try:
            said = pooled_deltas(self._pooled())
        except JobRejected as error:
            self._outbox.failed(self._job_id, error.code, str(error))
        else:
            self._outbox.say_first(self._job_id, said)
            self._outbox.done(self._job_id, ("stop",), self._prompt_tokens)
        return True

    def _pooled(self) -> list[Pooled]:
        if self._asked.task == "score" and not self._model.reads_pairs:
            return [Pooled(score) for score in self._scores()]
        return [self._one(part) for part in self._parts]

    def _one(self, part: Any) -> Pooled:
        vector = part.contiguous().numpy().tobytes()
        if part.dim() > 1:
            return Pooled(vector, rows=part.shape[0])
        if self._model.task != "classify":
            return Pooled(vector)
        return Pooled(vector, label=self._model.labels.get(int(part.argmax()), ""))

    def _scores(self) -> list[bytes]:
        if self._model.task != "token_embed":
            return cosines([part.numpy().tobytes() for part in self._parts], self._asked)
        # ColBERT's: for each token of the query the likest of the document, summed up.
        parts = [(self._parts[one], self._parts[other]) for one, other in pairs(self._asked)]
        return [packed([float((one @ other.T).amax(-1).sum())]) for one, other in parts]
