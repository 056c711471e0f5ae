"""Ends of answers through vLLM's adapter, in vLLM's own environment."""

from __future__ import annotations

import json

import pytest

from contract.config import ModelConfig
from contract.messages import ErrorCode, Job, Sampling
from tests.engines.vllm_process import VllmProcess
from workers.engines.prefix_cache import cache_salt
from workers.engines.vllm.answer import meaning_of

SCRIPT = """
import json, types
from vllm.v1.engine import FINISH_REASON_STRINGS
from contract.asked import Guided
from contract.messages import Job, Sampling
from workers.engines.vllm.requests import tokens_prompt
from workers.engines.vllm.answer import VllmAnswer

class Outbox:
    untold = True
    def delta(self, job_id, text, *_): self.untold = self.untold and not text
    def is_untold(self, job_id): return self.untold
    def done(self, job_id, reasons, *_, stop_strings=()):
        self.said, self.stops = list(reasons), list(stop_strings)
    def give_up(self, job_id, code, message, *, retryable): self.said = [code.value, retryable]

def end(reason, guided, stop_reason=None, tell="said", text=""):
    outbox, job = Outbox(), Job("j", "m", Sampling(guided=guided), prompt="x")
    choice = types.SimpleNamespace(
        text=text, token_ids=[], index=0, logprobs=None, finish_reason=reason,
        stop_reason=stop_reason)
    VllmAnswer(outbox, job, 1).take(
        types.SimpleNamespace(outputs=[choice], finished=True, num_cached_tokens=0))
    return getattr(outbox, tell)

regex = Guided("regex", "a")
print(json.dumps({
    "plain": {reason: end(reason, None) for reason in (*FINISH_REASON_STRINGS, "new")},
    "guided": end("error", regex),
    "no json": [end("stop", Guided(kind), *said) for kind, *said in (
        ("json",), ("json", 7), ("json_object", None, "said", "{}"), ("choice",))],
    "stops": [end("stop", None, said, "stops") for said in ("END", 7, None)],
    "salted": tokens_prompt([1], "salt").get("cache_salt"),
    "shared": tokens_prompt([1], None).get("cache_salt"),
}))
"""


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_every_reason_of_this_vllm_has_one_meaning(vllm_process: VllmProcess) -> None:
    said = json.loads(vllm_process.run(SCRIPT))
    assert said == {
        "plain": {
            "stop": ["stop"],
            "length": ["length"],
            "repetition": ["length"],
            "abort": ["engine_failed", True],
            "error": ["engine_failed", True],
            "new": ["engine_failed", True],
        },
        "guided": ["engine_failed", False],
        "no json": [["engine_failed", False], ["stop"], ["stop"], ["stop"]],
        "stops": [["END"], [""], [""]],
        "salted": "salt",
        "shared": None,
    }


def test_what_the_engine_core_refuses_is_no_failure_of_the_engine() -> None:
    """The classes of vLLM 0.33 (vllm/exceptions.py)."""
    client = type("VLLMClientError", (Exception,), {})
    refusal = type("VLLMValidationError", (client,), {})
    said = "Invalid structured outputs: no such rule"
    assert meaning_of(refusal(said)) == (ErrorCode.INVALID_REQUEST, said)
    for error in (ValueError("inside"), type("GenerationError", (Exception,), {})("inside")):
        code, message = meaning_of(error)
        assert code is ErrorCode.ENGINE_FAILED
        assert "inside" not in message


def test_each_key_has_a_salt_of_its_own_unless_the_model_is_shared() -> None:
    jobs = [Job("j", "m", Sampling(), prompt="x", key_id=key) for key in ("a", "a", "b", "")]
    model = ModelConfig(model_path="-")
    salts = [cache_salt(job, model) for job in jobs]
    assert salts[0] == salts[1]
    assert len(set(salts)) == 3
    assert all(salts)
    shared = ModelConfig(model_path="-", share_prefix_cache=True)
    assert {cache_salt(job, shared) for job in jobs} == {None}
