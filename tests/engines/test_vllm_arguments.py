"""A worker's configuration through vLLM's adapter, in vLLM's own environment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig, WorkerSpec
from tests.engines.contract.engines import MODEL_DIR
from tests.engines.vllm_process import VllmProcess

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

SCRIPT = """
import json, os, sys
from contract.config import WorkerSpec
from workers.engines.vllm.arguments import engine_args
asked = json.load(sys.stdin)
os.environ |= asked["environment"]
os.sched_getaffinity = lambda _: set(range(asked["cores"]))
specs = [WorkerSpec.model_validate(each) for each in asked["specs"]]
print(json.dumps([engine_args(each, False).get("distributed_executor_backend") for each in specs]))
"""

ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def spec_of(engine: str, executor: str | None = "uni", **settings: Any) -> WorkerSpec:
    args = {} if executor is None else {"distributed_executor_backend": executor}
    model = ModelConfig(engine=engine, model_path="-", engine_args=args, **settings)
    return WorkerSpec(name="w", model_id="m", model=model, engine=engine, env="-", redis_url="-")


def test_only_a_whole_model_on_the_cpu_gets_the_executor_of_one_process(
    vllm_process: VllmProcess,
) -> None:
    specs = [
        spec_of("cpu-vllm"),
        spec_of("cpu-vllm", tensor_parallel_size=2),
        spec_of("cpu-vllm", pipeline_parallel_size=2),
        spec_of("cuda-vllm"),
    ]
    first, *others = executors(vllm_process, specs, cores=8)
    assert first == ONE_PROCESS
    assert others == ["uni"] * 3


def test_where_cores_are_few_one_process_computes_unless_something_else_is_asked_for(
    vllm_process: VllmProcess,
) -> None:
    silent, parts = spec_of("cpu-vllm", None), spec_of("cpu-vllm", None, tensor_parallel_size=2)
    specs = [silent, spec_of("cpu-vllm", "mp"), parts, spec_of("cuda-vllm", None)]
    assert executors(vllm_process, specs, cores=4) == [ONE_PROCESS, "mp", None, None]
    assert executors(vllm_process, [silent], cores=5) == [None]
    assert executors(vllm_process, [silent], cores=4, VLLM_CPU_OMP_THREADS_BIND="0-1") == [None]


def executors(
    vllm_process: VllmProcess, specs: list[WorkerSpec], cores: int, **environment: str
) -> list[str | None]:
    given = [spec.model_dump(mode="json") for spec in specs]
    asked = {"environment": environment, "cores": cores, "specs": given}
    found: list[str | None] = json.loads(vllm_process.run(SCRIPT, asked))
    return found


ADAPTERS = """
import json, sys
from contract.config import WorkerSpec
from workers.engines.vllm.arguments import engine_args
args = engine_args(WorkerSpec.model_validate(json.load(sys.stdin)), True)
print(json.dumps([args["max_loras"], args["max_lora_rank"]]))
"""


def test_there_is_a_place_for_every_adapter_and_it_is_wide_enough(
    vllm_process: VllmProcess, tmp_path: Path
) -> None:
    paths = {}
    for rank in (8, 24):
        paths[f"r{rank}"] = str(tmp_path / f"r{rank}")
        Path(paths[f"r{rank}"]).mkdir()
        (tmp_path / f"r{rank}" / "adapter_config.json").write_text(json.dumps({"r": rank}))
    spec = spec_of("cuda-vllm", adapters={"narrow": paths["r8"]}, adapter_path=paths["r24"])
    given = json.loads(vllm_process.run(ADAPTERS, spec.model_dump(mode="json")))
    assert given == [2, 32]


AMX = """
import ctypes
from vllm.utils.import_utils import resolve_obj_by_qualname
from workers.engines.vllm.arguments import set_cpu_defaults

def may_use_amx():
    GET_XCOMP_PERM, XTILEDATA = 0x1022, 18
    mask = ctypes.c_ulonglong()
    assert ctypes.CDLL(None).syscall(158, GET_XCOMP_PERM, ctypes.byref(mask)) == 0
    return bool(mask.value >> XTILEDATA & 1)

args = {}
set_cpu_defaults(args)
before = may_use_amx()
resolve_obj_by_qualname(args["worker_extension_cls"])
print(before, may_use_amx())
"""


@pytest.mark.skipif("amx_tile" not in Path("/proc/cpuinfo").read_text(), reason="no AMX here")
def test_a_process_of_vllm_on_the_cpu_may_use_amx(vllm_process: VllmProcess) -> None:
    assert vllm_process.run(AMX).split()[-2:] == ["False", "True"]


REFUSALS = """
import json, sys
from contract.config import WorkerSpec
from workers.engines.vllm.arguments import engine_args, known_args
from workers.lasting import lasting_reason
def told(spec):
    try:
        known_args(engine_args(WorkerSpec.model_validate(spec), False)).create_engine_config()
    except Exception as error:
        return lasting_reason(error)
print(json.dumps([told(spec) for spec in json.load(sys.stdin)]))
"""


def test_what_vllm_will_never_serve_is_known_by_the_exception_that_it_raises(
    vllm_process: VllmProcess, tmp_path: Path
) -> None:
    def checkpoint(**changes: object) -> str:
        directory = tmp_path / "-".join(changes)
        shutil.copytree(MODEL_DIR, directory)
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))
        return str(directory)

    refused = {
        "has no argument `max_num_seq`; did you mean `max_num_seqs`?": {
            "engine_args": {"max_num_seq": 2}
        },
        "`block_size`: Input should be a valid integer": {"engine_args": {"block_size": "many"}},
        "greater than the derived max_model_len": {"max_model_len": 1_000_000},
        "Unknown quantization method: fp9": {"quantization": "fp9"},
        "['NoSuchModel'] are not supported": {
            "model_path": checkpoint(architectures=["NoSuchModel"])
        },
        "does not recognize this architecture": {"model_path": checkpoint(model_type="nosuch")},
    }
    models = [
        ModelConfig.model_validate({"engine": "cpu-vllm", "model_path": str(MODEL_DIR), **changes})
        for changes in refused.values()
    ]
    specs = [
        WorkerSpec(name="w", model_id="m", model=each, engine="cpu-vllm", env="-", redis_url="-")
        for each in models
    ]
    given = [spec.model_dump(mode="json") for spec in specs]
    told = json.loads(vllm_process.run(REFUSALS, given).splitlines()[-1])
    for words, reason in zip(refused, told, strict=True):
        assert words in (reason or ""), told


NAMES = """
import json, sys
from contract.config import WorkerSpec
from vllm import PoolingParams
from workers.engines.vllm.arguments import engine_args, known_args

def refusal(spec):
    args = engine_args(WorkerSpec.model_validate(spec), False)
    model = known_args(args).create_engine_config().model_config
    try:
        PoolingParams(task="embed", dimensions=9).verify(model)
    except Exception as error:
        return str(error)
print(json.dumps([refusal(spec) for spec in json.load(sys.stdin)]))
"""


def test_vllms_errors_name_the_model_and_not_its_path(vllm_process: VllmProcess) -> None:
    pools = {"runner": "pooling"}
    models = [
        ModelConfig(engine="cpu-vllm", model_path=str(MODEL_DIR), engine_args=given)
        for given in (pools, {**pools, "served_model_name": "own"})
    ]
    specs = [
        WorkerSpec(name="w", model_id="m", model=each, engine="cpu-vllm", env="-", redis_url="-")
        for each in models
    ]
    given = [spec.model_dump(mode="json") for spec in specs]
    told = json.loads(vllm_process.run(NAMES, given).splitlines()[-1])
    for name, error in zip(("m", "own"), told, strict=True):
        assert error.startswith(f"Model {name!r} does not support Matryoshka"), told


OUTPUTS = """
import json, sys
from workers.engines.vllm.arguments import known_args
config = known_args(json.load(sys.stdin)).create_engine_config().structured_outputs_config
print(json.dumps([config.reasoning_parser, config.disable_any_whitespace]))
"""


def test_a_reasoning_parser_and_a_configuration_of_structured_outputs_go_together(
    vllm_process: VllmProcess,
) -> None:
    given = {
        "model": str(MODEL_DIR),
        "max_model_len": 64,
        "reasoning_parser": "deepseek_v3",
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    told = json.loads(vllm_process.run(OUTPUTS, given).splitlines()[-1])
    assert told == ["deepseek_v3", True]


SERVE = """
import argparse, json, sys
sys.path.insert(0, "scripts/programs/bench")
from passed import passed
from vllm import AsyncEngineArgs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm_serve import options
from contract.config import WorkerSpec
from workers.engines.vllm.arguments import known_args

args, variables = passed(WorkerSpec.model_validate(json.load(sys.stdin)))
parser = FlexibleArgumentParser()
ServeSubcommand().subparser_init(parser.add_subparsers(dest="subparser"))
parsed = parser.parse_args(["serve", *options(args)])
parsed.model = parsed.model_tag
serve, ew = (vars(each) for each in (AsyncEngineArgs.from_cli_args(parsed), known_args(args)))
# The name of the model may be several there.
differ = [name for name in args if serve[name] not in (ew[name], [ew[name]])]
print(json.dumps([sorted(args), variables, differ]))
"""


def test_the_benchmark_gives_vllm_serve_the_arguments_of_the_worker(
    vllm_process: VllmProcess,
) -> None:
    spec = spec_of("cpu-vllm", dtype="bfloat16", max_batch_size=7, max_model_len=512)
    given = spec.model_dump(mode="json") | {"kv_cache_bytes": 2**28}
    more = {"enable_prefix_caching": False, "structured_outputs_config": {"backend": "xgrammar"}}
    given["model"]["engine_args"] |= more
    # One that begins with a dash is no argument.
    given["model"]["model_path"] = "m"
    args, variables, differ = json.loads(vllm_process.run(SERVE, given))
    assert {"dtype", "max_num_seqs", "max_model_len", "kv_cache_memory_bytes", *more} <= set(args)
    assert "VLLM_CPU_KVCACHE_SPACE" in variables
    assert differ == []
