"""The estimate lays out DeepSeek V4's cache as vLLM's own allocator does, to the block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.config import ModelConfig
from contract.paths import ROOT
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.kv_cache import bytes_for
from orchestrator.estimate.running import Card, running
from tests.engines.vllm_process import VllmProcess
from tests.orchestrator.estimate.test_published_models import DEFAULTS
from tests.orchestrator.models_on_disk import write_safetensors

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(300)]

#: Prints for each model the tokens on their way, the bytes that vLLM wants for one sequence of the
#: whole context, and those of a block.
ALLOCATE = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import describe_model as script
script.prepare()
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.core import kv_cache_utils as caches

answers = []
for path, context in json.load(sys.stdin):
    args = AsyncEngineArgs(
        model=path, skip_tokenizer_init=True, load_format="dummy", max_model_len=context,
        enable_prefix_caching=False,
    )
    config = args.create_engine_config()
    config.cache_config.block_size = script.COMPRESSED_BLOCK
    # The only layout that takes pages of several sizes.
    config.cache_config.kv_cache_layout = "BLNHC"
    script.build(config)
    layers = config.compilation_config.static_forward_context.items()
    specs = {{name: script.spec_of(layer, config) for name, layer in layers}}
    specs = {{name: spec for name, spec in specs.items() if spec is not None}}
    groups = caches.get_kv_cache_groups(config, specs)
    answers.append([
        config.max_in_flight_tokens,
        caches._max_memory_usage_bytes_from_groups(config, groups),
        caches._pool_bytes_per_block(config, groups),
    ])
print("\\n" + json.dumps(answers))
"""
CONTEXT = 16_384


def test_vllm_allocates_what_is_estimated(vllm_process: VllmProcess, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("DeepSeek-V4", "DeepSeek-V4.1")]
    for path in paths:
        path.mkdir()
        (path / "config.json").write_text(json.dumps(DEFAULTS[path.name]))
        write_safetensors(path / "model.safetensors", {"w": [16, 16]}, "BF16")
    said = vllm_process.run(ALLOCATE, [[str(path), CONTEXT] for path in paths])
    answers = json.loads(said.splitlines()[-1])
    for path, (in_flight, wanted, block) in zip(paths, answers, strict=True):
        # Two steps are on their way at once.
        args = {"max_num_batched_tokens": in_flight // 2}
        model = ModelConfig(model_path=str(path), max_model_len=CONTEXT, engine_args=args)
        own = read_checkpoint(path)
        run = running(model, "cuda-vllm", own, Card())
        # vLLM keeps a block for itself; a page of 33 984 bytes counts as 34 048.
        assert bytes_for(1, own.shape, run) == pytest.approx(wanted + block, rel=0.001)
