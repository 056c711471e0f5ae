"""How busy vLLM says it is while it cannot begin a request, by its own scheduler alone."""

from __future__ import annotations

import json

import pytest

from tests.engines.contract.engines import MODEL_DIR
from tests.engines.vllm_process import VllmProcess

pytestmark = pytest.mark.vllm
_SCRIPT = """
import json, os, sys
os.environ.update(HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1")
import torch
from types import SimpleNamespace
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from workers.engines.vllm.load import load_reporter

config = AsyncEngineArgs(
    model=json.load(sys.stdin),
    max_model_len=64,
    block_size=16,
    enable_prefix_caching=False,
    enforce_eager=True,
).create_engine_config()
layer = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=64, dtype=torch.float32)
config.cache_config.num_gpu_blocks = 4
cache = KVCacheConfig(4, [], [KVCacheGroupSpec(["layer"], layer)])
grammars = StructuredOutputManager(config)

def loads(tokens, **asked):
    scheduler = Scheduler(config, cache, grammars, block_size=16, log_stats=True)
    params = SamplingParams(max_tokens=1, **asked)
    scheduler.add_request(Request("r", [1] * tokens, params, None))
    told = []
    reporter = load_reporter(SimpleNamespace(report_load=told.append))(config)
    for _ in range(2):
        scheduler.schedule()
        reporter.record(scheduler.make_stats())
    return [[load.waiting, load.deferred, load.running, load.has_no_room] for load in told]

json_only = StructuredOutputsParams(json_object=True)
print(json.dumps({
    "fits": loads(48),
    # Three blocks hold 48 tokens: of the four, vLLM keeps one for itself.
    "has no room": loads(49),
    # Its grammar is never compiled here.
    "is deferred": loads(1, structured_outputs=json_only),
}))
"""


def test_a_request_without_room_waits_and_one_without_its_grammar_is_deferred(
    vllm_process: VllmProcess,
) -> None:
    printed = vllm_process.run(_SCRIPT, str(MODEL_DIR))
    assert json.loads(printed.splitlines()[-1]) == {
        "fits": [[0, 0, 1, False]] * 2,
        "has no room": [[1, 0, 0, True]] * 2,
        "is deferred": [[1, 1, 0, False]] * 2,
    }


_NUMBERS = """
import json
from types import SimpleNamespace
from vllm.v1.engine import EngineCoreRequest, input_processor
from workers.engines.vllm.load import look_up_once, numbers

look_up_once(SimpleNamespace(input_processor=object.__new__(input_processor.InputProcessor)))

def named(job_id):
    request = EngineCoreRequest(job_id, [1], None, None, None, 0.0, None, None, None)
    input_processor.InputProcessor.assign_request_id(request)
    return request.request_id

last = numbers(2**32 - 1)
print(json.dumps([[named("j") for _ in range(3)], [last(), last()]]))
"""


def test_requests_of_one_name_are_told_apart_by_numbers(vllm_process: VllmProcess) -> None:
    names, last = json.loads(vllm_process.run(_NUMBERS))
    found = [int(name.removeprefix("j-"), 16) for name in names]
    assert found == [(found[0] + more) % 2**32 for more in range(3)]
    assert {len(name) for name in names} == {len("j-") + 8}
    assert last == ["ffffffff", "00000000"]
