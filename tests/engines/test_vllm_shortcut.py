"""The short way of plain answers says what vLLM's own way says, in vLLM's own environment."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contract.engines import declaration_of
from tests.engines.contract.engines import MODEL_DIR
from tests.engines.vllm_process import VllmProcess
from workers.engines.vllm.shortcut import READ, Shortcut
from workers.outbox import Outbox

#: Makes an `OutputProcessor` as `AsyncLLM` does, feeds it what an engine core would say, and prints
#: what every job's client gets, and which requests the engine core is told to abort.
SCRIPT = """
import json, sys
from types import SimpleNamespace
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from contract.bus.claims import Attempt
from contract.messages import Delta, Job, ReasoningDelta, Sampling
from workers.answers.transcript import REASONING
from workers.engines.shared.parsing.pieces import ParsedPiece
from workers.engines.vllm import shortcut as short
from workers.engines.vllm.answer import VllmAnswer
from workers.engines.vllm.requests import sampling_params
from workers.outbox import Outbox

given = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(given["model"])
TEXTS = given["texts"]

class Reader:
    # Takes what comes before the second comma for reasoning.

    has_called = False

    def __init__(self):
        self.commas = 0

    def feed(self, text, token_ids, *, finished):
        kind = REASONING if self.commas < 2 else None
        self.commas += text.count(",")
        return [ParsedPiece(kind, text + "!" * finished)]

def jobs():
    for number, text in enumerate(TEXTS):
        yield f"plain {number}", Sampling(), text, "STOP"
        yield f"parsed {number}", Sampling(), text, "STOP"
        yield f"cut {number}", Sampling(), text, "LENGTH"
        yield f"special {number}", Sampling(skip_special_tokens=False), text, "STOP"
        yield f"stop {number}", Sampling(stop=(text[3:5],)), text, "LENGTH"
        yield f"stop kept {number}", Sampling(
            stop=(text[3:5],), include_stop_str_in_output=True), text, "LENGTH"
        yield f"aborted {number}", Sampling(), text, "LENGTH"

def run(takes, at_once):
    processor = OutputProcessor(tokenizer, log_stats=True)
    outbox = Outbox(None, None, "w")
    own_calls = []
    processor.process_outputs = counted(processor.process_outputs, own_calls)
    cut = short.Shortcut(processor, outbox)
    if takes:
        processor.process_outputs = cut.process_outputs
    feeds = {}
    for job_id, sampling, text, reason in jobs():
        job = Job(job_id, "m", sampling, prompt="x")
        outbox.open(Attempt(job, "1-1", 1, "out", "0", 1000, 1))
        params = sampling_params(job, {}, 1000, 0, {})
        params.update_from_tokenizer(tokenizer)
        collector = RequestOutputCollector(RequestOutputKind.DELTA, job_id)
        parsed = [Reader()] if job_id.startswith("parsed") else []
        answer = VllmAnswer(outbox, job, 1, parsed)
        collector.put = answer.take
        request = EngineCoreRequest(
            f"{job_id}-inner", [1, 2, 3], None, params, None, 0.0, None, None, None,
            external_req_id=job_id)
        processor.add_request(request, None, None, 0, collector)
        if short.is_usual(job):
            cut.add(job_id, answer.say())
        ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id]
        pieces = [ids[i:i + at_once] for i in range(0, len(ids), at_once)]
        feeds[job_id] = [
            EngineCoreOutput(f"{job_id}-inner", piece, finish_reason=(
                FinishReason[reason] if piece is pieces[-1] else None))
            for piece in pieces]
    aborts, step = [], 0
    while any(feeds.values()):
        outputs = [feed.pop(0) for feed in feeds.values() if feed]
        aborts += processor.process_outputs(outputs, 0.0, None).reqs_to_abort
        step += 1
        if step == 2:
            for job_id in [each for each in feeds if each.startswith("aborted")]:
                outbox.settle(job_id, "cancelled")
                cut.discard(job_id)
                processor.abort_requests([job_id], internal=False)
    said = {}
    for _, __, seq, event in outbox._envelopes["out"][:]:
        job = said.setdefault(_, {"text": "", "tokens": "", "end": None, "reasoning": ""})
        if isinstance(event, Delta):
            is_reasoning = isinstance(event, ReasoningDelta)
            job["reasoning" if is_reasoning else "text"] += event.text
            job["tokens"] += event.tokens.hex()
        elif type(event).__name__ != "Started":
            job["end"] = repr(event)
    return {"said": said, "aborts": sorted(aborts), "left": sorted(processor.request_states),
            "own": sum(own_calls)}

def counted(process, calls):
    def call(outputs, *args, **more):
        calls.append(len(outputs))
        return process(outputs, *args, **more)
    return call

import asyncio
async def main():
    print(json.dumps({str(n): [run(False, n), run(True, n)] for n in (1, 3)}))
asyncio.run(main())
"""
TEXTS = [
    "one, two, three, four, five, six, seven",
    "äöü ☃ 漢字 🎉🎊 ένα δύο",
    "a\u2028b\n\nc\ttabs  and   spaces   ",
]


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_both_ways_say_the_same(vllm_process: VllmProcess) -> None:
    given = {"model": str(MODEL_DIR), "texts": TEXTS}
    both: dict[str, list[dict[str, Any]]] = json.loads(vllm_process.run(SCRIPT, given))
    for own, short in both.values():
        outputs_of_its_own = own.pop("own"), short.pop("own")
        assert short == own
        assert outputs_of_its_own[1] < outputs_of_its_own[0]
        assert own["left"] == []
        assert own["said"]["plain 1"]["text"] == TEXTS[1]
        parsed = own["said"]["parsed 0"]
        assert parsed["reasoning"].startswith("one, two,")
        assert parsed["reasoning"] + parsed["text"] == f"{TEXTS[0]}!"
        assert len(own["aborts"]) == 2 * len(TEXTS)


INSTALL = """
import json
from functools import partial
from types import SimpleNamespace
from vllm.v1.engine.output_processor import OutputProcessor
from workers.engines.vllm.shortcut import install

def installed(**changes):
    processor = OutputProcessor(None, log_stats=False, **changes)
    engine = SimpleNamespace(output_processor=processor)
    found = install(engine, None)
    # An instance has its own `process_outputs` once it is replaced.
    return [found if isinstance(found, str) else "", "process_outputs" in vars(processor)]

told = [installed(), installed(stream_interval=4)]
def process_outputs(self, engine_core_outputs, *more):
    return None
OutputProcessor.process_outputs = process_outputs
# The text of a function comes from a file.
import inspect
inspect.getsource = lambda f, real=inspect.getsource: "other" if f is process_outputs else real(f)
told.append(installed())
print(json.dumps(told))
"""


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_the_installed_release_is_known_and_one_that_differs_is_left_alone(
    vllm_process: VllmProcess,
) -> None:
    known, in_intervals, other = json.loads(vllm_process.run(INSTALL))
    assert known == ["", True]
    assert in_intervals == ["stream_interval is 4", False]
    why = "this release has another `OutputProcessor.process_outputs` than those that are known"
    assert other == [why, False]


def test_that_the_core_names_the_version_of_its_weights_changes_nothing() -> None:
    """As 0.33.0 does with all outputs."""
    said: list[tuple[str, str, list[int]]] = []
    own: list[tuple[list[Any], dict[str, Any]]] = []
    state = SimpleNamespace(
        is_prefilling=False,
        external_req_id="j",
        detokenizer=SimpleNamespace(token_ids=[], decode_next=chr),
    )
    processor = SimpleNamespace(
        request_states={"j-inner": state},
        process_outputs=lambda outputs, *_, **more: own.append((outputs, more)),
        tracing_enabled=False,
    )
    outbox = SimpleNamespace(delta=lambda *delta: said.append(delta))
    shortcut = Shortcut(processor, cast(Outbox, outbox))
    shortcut.add("j", partial(outbox.delta, "j"))
    output = SimpleNamespace(
        request_id="j-inner", new_token_ids=[65], finish_reason=None, routed_experts=None
    )
    shortcut.process_outputs([output], 0.0, None, weight_version="default")
    assert said == [("j", "A", [65])]
    assert own == [([], {"weight_version": "default"})]


def test_every_declared_release_was_read() -> None:
    declared = {*declaration_of("cpu-vllm").releases, *declaration_of("cuda-vllm").releases}
    for function, read in READ.items():
        assert declared <= read.keys(), function


def test_an_operator_is_told_if_the_short_way_is_not_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As if a release had its outputs processed by something else."""
    outbox = SimpleNamespace(remark="")
    processor = SimpleNamespace(request_states={}, process_outputs=print, tracing_enabled=False)
    shortcut = Shortcut(processor, cast(Outbox, outbox))
    shortcut.add("j", print)
    shortcut.miss("j")
    assert outbox.remark == ""
    shortcut.miss("another")
    shortcut.miss("j")
    assert outbox.remark == caplog.messages[0]
    assert "tokens take vLLM's own way" in outbox.remark
