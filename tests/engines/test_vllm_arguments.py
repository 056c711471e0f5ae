"""What vLLM's adapter makes of a worker's configuration, in vLLM's own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from contract.config import ModelConfig, WorkerSpec
from contract.paths import ROOT
from tests.engines.contract.engines import vllm_python

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

SCRIPT = """
import json, sys
from contract.config import WorkerSpec
from workers.engines.vllm import engine_args
specs = [WorkerSpec.model_validate(each) for each in json.load(sys.stdin)]
print(json.dumps([engine_args(each, False).get("distributed_executor_backend") for each in specs]))
"""


def spec_of(engine: str, **settings: int) -> WorkerSpec:
    model = ModelConfig(
        engine=engine,
        model_path="-",
        engine_args={"distributed_executor_backend": "uni"},
        **settings,
    )
    return WorkerSpec(name="w", model_id="m", model=model, engine=engine, env="-", redis_url="-")


def test_only_a_whole_model_on_the_cpu_gets_the_executor_of_one_process() -> None:
    specs = [
        spec_of("cpu-vllm"),
        spec_of("cpu-vllm", tensor_parallel_size=2),
        spec_of("cpu-vllm", pipeline_parallel_size=2),
        spec_of("cuda-vllm"),
    ]
    answer = subprocess.run(
        [vllm_python(), "-c", SCRIPT],
        input=json.dumps([spec.model_dump(mode="json") for spec in specs]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    first, *others = json.loads(answer.stdout.splitlines()[-1])
    assert first.endswith(".UniProcExecutor")
    assert others == ["uni"] * 3


AMX = """
import ctypes
from vllm.utils.import_utils import resolve_obj_by_qualname
from workers.engines.vllm import _set_cpu_defaults

def may_use_amx():
    GET_XCOMP_PERM, XTILEDATA = 0x1022, 18
    mask = ctypes.c_ulonglong()
    assert ctypes.CDLL(None).syscall(158, GET_XCOMP_PERM, ctypes.byref(mask)) == 0
    return bool(mask.value >> XTILEDATA & 1)

args = {}
_set_cpu_defaults(args)
before = may_use_amx()
resolve_obj_by_qualname(args["worker_extension_cls"])
print(before, may_use_amx())
"""


@pytest.mark.skipif("amx_tile" not in Path("/proc/cpuinfo").read_text(), reason="no AMX here")
def test_a_process_of_vllm_on_the_cpu_may_use_amx() -> None:
    answer = subprocess.run(
        [vllm_python(), "-c", AMX], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split()[-2:] == ["False", "True"]
