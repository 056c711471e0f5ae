"""The executor: a thread that computes one token for each running request per step."""

from __future__ import annotations

import queue
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .batch import Batch
from .result import Logprob, RequestOutput, Response
from .sampling_params import SamplingParams

if TYPE_CHECKING:
    from .guidance import Guide

_DIRECTIVE = re.compile(r"\[\[(fail_at|die_at|step_ms)=(\d+)\]\]")


@dataclass
class Sequence:
    """A request that runs. A prompt with `[[fail_at=3]]` fails at its token 3, with
    `[[die_at=3]]` the executor dies there, with `[[step_ms=50]]` each step takes longer."""

    output: RequestOutput
    params: SamplingParams
    model: Any
    streaming: bool
    guide: Guide | None
    directives: dict[str, int]
    token_ids: list[int] = field(default_factory=list)
    unsent: list[int] = field(default_factory=list)
    unsent_logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    row: int | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)


class Executor:
    """Runs at most `max_batch_size` sequences at once; the others wait."""

    def __init__(self, max_batch_size: int, tokenizer: Any) -> None:
        self._error_queue: queue.Queue[BaseException] = queue.Queue()
        self._max_batch_size = max_batch_size
        self._tokenizer = tokenizer
        self._waiting: queue.SimpleQueue[Sequence | None] = queue.SimpleQueue()
        self._running: list[Sequence] = []
        self._aborted: set[int] = set()
        self._batches: dict[int, Batch] = {}
        self._closed = False
        self.stats: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return len(self._running)

    def is_shutdown(self) -> bool:
        return self._closed

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()

    def submit(self, sequence: Sequence) -> None:
        seed = sequence.params.seed or 0
        sequence.generator.manual_seed(seed % 2**63)
        self._waiting.put(sequence)

    def abort(self, request_id: int) -> None:
        self._aborted.add(request_id)

    def directives(self, prompt_token_ids: list[int]) -> dict[str, int]:
        text = self._tokenizer.decode(prompt_token_ids)
        return {name: int(value) for name, value in _DIRECTIVE.findall(text)}

    def _run(self) -> None:
        torch.set_num_threads(1)
        while not self._closed:
            self._admit()
            try:
                self._step()
            except ExecutorDied as error:
                # As in the real one: no client is told, the requests hang.
                self._error_queue.put(error)
                return
            self.stats.put(self._iteration())

    def _admit(self) -> None:
        while len(self._running) < self._max_batch_size:
            if self._running and self._waiting.empty():
                return
            sequence = self._waiting.get()
            if sequence is None:
                return
            self._running.append(sequence)

    @torch.inference_mode()
    def _step(self) -> None:
        going = [sequence for sequence in list(self._running) if self._goes_on(sequence)]
        for model in {id(sequence.model): sequence.model for sequence in going}.values():
            batch = self._batches.setdefault(id(model), Batch(model))
            ours = [sequence for sequence in going if sequence.model is model]
            for sequence, logits in _forward(batch, ours):
                self._extend(sequence, _next_token(sequence, logits))

    def _goes_on(self, sequence: Sequence) -> bool:
        """Return whether it takes part in this step; ends it otherwise."""
        count = len(sequence.token_ids)
        if sequence.directives.get("die_at") == count:
            raise ExecutorDied("CUDA error: an illegal memory access was encountered")
        time.sleep(sequence.directives.get("step_ms", 0) / 1000)
        if sequence.output.request_id in self._aborted:
            self._end(sequence, Response(finish="cancelled"))
        elif sequence.directives.get("fail_at") == count:
            self._end(sequence, Response(error="the stand-in was told to fail this request"))
        elif sequence.params.use_beam_search:
            self._end(sequence, _search(sequence))
        else:
            return True
        return False

    def _extend(self, sequence: Sequence, token_id: int) -> None:
        sequence.token_ids.append(token_id)
        sequence.unsent.append(token_id)
        finish = _finish_reason(sequence)
        if finish is not None:
            self._end(sequence, _response(sequence, finish))
        elif sequence.streaming:
            sequence.output.queue.put(_response(sequence, None))

    def _end(self, sequence: Sequence, response: Response) -> None:
        self._running.remove(sequence)
        if sequence.row is not None:
            self._batches[id(sequence.model)].remove(sequence.row)
        self._aborted.discard(sequence.output.request_id)
        sequence.output.queue.put(response)

    def _iteration(self) -> dict[str, Any]:
        used = sum(-(-len(each.token_ids) // 32) for each in self._running)
        return {
            "numActiveRequests": len(self._running),
            "numQueuedRequests": self._waiting.qsize(),
            "kvCacheStats": {"maxNumBlocks": 1000, "usedNumBlocks": used},
        }


class ExecutorDied(RuntimeError):
    """The error that the background thread dies of."""


def _response(sequence: Sequence, finish: str | None) -> Response:
    response = Response(sequence.unsent, sequence.unsent_logprobs, finish=finish)
    sequence.unsent, sequence.unsent_logprobs = [], []
    return response


def _forward(batch: Batch, sequences: list[Sequence]) -> list[tuple[Sequence, torch.Tensor]]:
    """Return the logits of each sequence's next token."""
    running = [sequence for sequence in sequences if sequence.row is not None]
    computed: list[tuple[Sequence, torch.Tensor]] = []
    if running:
        rows = [sequence.row for sequence in running if sequence.row is not None]
        logits = batch.step(rows, [sequence.token_ids[-1] for sequence in running])
        computed += zip(running, logits, strict=True)
    for sequence in sequences:
        if sequence.row is None:
            sequence.row, last = batch.add(sequence.output.prompt_token_ids)
            computed.append((sequence, last))
    return computed


def _next_token(sequence: Sequence, logits: torch.Tensor) -> int:
    if sequence.guide is not None:
        sequence.guide.mask(logits)
    _penalise(logits, sequence)
    logprobs = torch.log_softmax(logits, dim=-1)
    token_id = _choose(logits, sequence)
    if sequence.guide is not None:
        sequence.guide.accept(token_id)
    if sequence.params.logprobs:
        sequence.unsent_logprobs.append(_top(logprobs, sequence.params.logprobs, token_id))
    return token_id


def _penalise(logits: torch.Tensor, sequence: Sequence) -> None:
    params, seen = sequence.params, sequence.token_ids
    if len(seen) < (params.min_tokens or 0):
        logits[[params.end_id, *(params.stop_token_ids or [])]] = -torch.inf
    for token_id in set(seen):
        logits[token_id] -= params.presence_penalty or 0.0
        logits[token_id] -= (params.frequency_penalty or 0.0) * seen.count(token_id)
    if params.repetition_penalty:
        known = list({*seen, *sequence.output.prompt_token_ids})
        some = logits[known]
        penalty = params.repetition_penalty
        logits[known] = torch.where(some > 0, some / penalty, some * penalty)


def _choose(logits: torch.Tensor, sequence: Sequence) -> int:
    params = sequence.params
    if params.is_greedy:
        return int(logits.argmax())
    chances = torch.softmax(logits / (params.temperature or 1.0), dim=-1)
    ordered, order = chances.sort(descending=True)
    keep = ordered.cumsum(0) - ordered < (1.0 if params.top_p is None else params.top_p)
    if params.top_k:
        keep[params.top_k :] = False
    if params.min_p:
        keep &= ordered >= params.min_p * ordered[0]
    drawn = torch.multinomial(ordered * keep, 1, generator=sequence.generator)
    return int(order[drawn])


def _top(logprobs: torch.Tensor, count: int, chosen: int) -> dict[int, Logprob]:
    values, ids = logprobs.topk(count)
    found = {
        int(token_id): Logprob(float(value), rank)
        for rank, (value, token_id) in enumerate(zip(values, ids, strict=True), 1)
    }
    if chosen not in found:
        found[chosen] = Logprob(float(logprobs[chosen]))
    return found


def _finish_reason(sequence: Sequence) -> str | None:
    params, token_ids = sequence.params, sequence.token_ids
    if token_ids[-1] == params.end_id and not params.ignore_eos:
        return "stop"
    for _, words in params.stop_reasons_and_words:
        if words and token_ids[-len(words) :] == words:
            return "stop_words"
    return "length" if len(token_ids) >= params.max_tokens else None


def _search(sequence: Sequence) -> Response:
    """Beam search, all of it in one go."""
    params, prompt = sequence.params, sequence.output.prompt_token_ids
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(params.max_tokens):
        grown = [beam for beam in beams if beam[1][-1:] == [params.end_id]]
        for score, token_ids in beams:
            if token_ids[-1:] == [params.end_id]:
                continue
            logits = sequence.model(input_ids=torch.tensor([prompt + token_ids])).logits[0, -1]
            values, ids = torch.log_softmax(logits.float(), -1).topk(params.best_of)
            grown += [
                (score + float(value), [*token_ids, int(token_id)])
                for value, token_id in zip(values, ids, strict=True)
            ]
        beams = sorted(grown, key=lambda beam: -beam[0])[: params.best_of]
        if all(token_ids[-1] == params.end_id for _, token_ids in beams):
            break
    ended = beams[0][1][-1:] == [params.end_id]
    return Response(
        beams=[token_ids for _, token_ids in beams], finish="stop" if ended else "length"
    )
