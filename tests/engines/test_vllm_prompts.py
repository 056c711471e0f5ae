"""The report on a prompt from vLLM's first output."""

from __future__ import annotations

import json

from tests.engines.vllm_process import VllmProcess

_SCRIPT = """
import json, types
from vllm.logprobs import Logprob
from contract.asked import PromptReport
from contract.messages import Job, Sampling
from workers.engines.vllm.prompt_report import PromptTeller
from workers.engines.vllm.requests import sampling_params

class Outbox:
    said = []
    def say_first(self, job_id, deltas):
        self.said += [("prompt", [p for d in deltas for p in d.places], deltas[0].prompt_text)]

outbox = Outbox()
take = lambda output: outbox.said.append(("output", output.text))
teller = PromptTeller(outbox, "j", [5, 6], "Once", lambda token: f"<{token}>", take)
chances = [
    None,
    {6: Logprob(float("-inf"), 9, "ce"), 7: Logprob(-0.5, 1, "e")},
    {8: Logprob(-1.0, 1, "of the answer that is continued")},
]
for text, of_prompt in (("a", chances), ("b", [])):
    teller.take(types.SimpleNamespace(text=text, prompt_logprobs=of_prompt))
job = Job("j", "m", Sampling(), prompt="Once", report=PromptReport(logprobs=1))
params = sampling_params(job, {}, 5, 0, {})
import msgspec
print(json.dumps([msgspec.to_builtins(outbox.said), params.prompt_logprobs]))
"""


def test_the_prompt_comes_once_and_before_the_answer(vllm_process: VllmProcess) -> None:
    said, asked = json.loads(vllm_process.run(_SCRIPT))
    first = [[5, "<5>", None, None]]
    second = [[6, "ce", -9999.0, 9], [7, "e", -0.5, 1]]
    assert said == [["prompt", [first, second], "Once"], ["output", "a"], ["output", "b"]]
    assert asked == 1
