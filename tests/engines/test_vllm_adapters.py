"""The estimate counts for LoRA adapters what vLLM's own manager of them makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.paths import ROOT
from orchestrator.estimate.checkpoint import read_checkpoint
from tests.engines.vllm_process import VllmProcess
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, decoder_tensors, write_safetensors

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

#: Prints, for each unit of rank, the elements that vLLM's own manager of adapters makes beside the
#: layers of a model, and those that the script counts that asks it.
BUILD = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import describe_model as script
script.prepare()
import torch
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.model_manager import LoRAModelManager
slots, rank = 2, 8
meta = torch.device("meta")

def elements(layer):
    parts = (*layer.lora_a_stacked, *layer.lora_b_stacked)
    return sum(part.numel() for part in parts)

answers = []
for path in json.load(sys.stdin):
    args = AsyncEngineArgs(
        model=path, skip_tokenizer_init=True, load_format="dummy", enable_lora=True,
        max_loras=slots, max_lora_rank=rank,
    )
    config = args.create_engine_config()
    model = script.build(config)
    counted = script.adapter_widths(model)
    with script.alone(config), meta:
        found = LoRAModelManager(model, 4, 64, 64, config.lora_config, meta, config).modules
    made = sum(map(elements, found.values()))
    answers.append([made / (slots * rank), counted])
print("\\n" + json.dumps(answers))
"""
#: Projections that a checkpoint has apart and that it has in one.
PHI_3 = QWEN2_HALF_B | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
QWEN_3 = QWEN2_HALF_B | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 64,
}
MODELS = [QWEN2_HALF_B, QWEN_3 | {"tie_word_embeddings": False}, PHI_3]


def joined(tensors: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return the tensors of a decoder whose projections from one place lie in one."""
    into = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
    into |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
    found: dict[str, list[int]] = {}
    for name, shape in tensors.items():
        *front, last, kind = name.split(".")
        if kind != "weight" or last not in into:
            found[name] = shape
            continue
        together = ".".join([*front, into[last], kind])
        rows = found[together][0] if together in found else 0
        found[together] = [rows + shape[0], shape[1]]
    return found


def test_vllm_makes_what_is_counted(vllm_process: VllmProcess, tmp_path: Path) -> None:
    paths = {config["model_type"]: tmp_path / config["model_type"] for config in MODELS}
    for config in MODELS:
        path = paths[config["model_type"]]
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        tensors = decoder_tensors(config)
        if config is PHI_3:
            tensors = joined(tensors)
        write_safetensors(path / "model.safetensors", tensors, "BF16")
    said = vllm_process.run(BUILD, [str(path) for path in paths.values()])
    answers = json.loads(said.splitlines()[-1])
    for path, (made, counted) in zip(paths.values(), answers, strict=True):
        assert made == counted["whole"] + counted["divided"]
        own = read_checkpoint(path).shape.adapters
        assert (own.whole, own.divided) == (counted["whole"], counted["divided"])


#: Prints the remark on the adapters of a model, or why it cannot be served, where the engine
#: cannot load the second.
LOAD = """
import asyncio, json, sys
from contract.config import ModelConfig
from workers.engine import CannotServe
from workers.engines.vllm.adapters import Adapters

class Engine:
    asked = []
    async def add_lora(self, request):
        self.asked.append(request.lora_name)
        if len(self.asked) == 2:
            raise Exception(
                "Call to add_lora method failed: Worker failed with error 'it has no DoRA', please "
                "check the stack trace above for the root cause"
            )
        return True

given = json.load(sys.stdin)
adapters = Adapters(ModelConfig(model_path="none", engine="cuda-vllm", **given))
try:
    print(asyncio.run(adapters.load(Engine())), Engine.asked)
except CannotServe as error:
    print(error)
"""


def test_adapters_are_loaded_before_the_first_request_and_refusals_told(
    vllm_process: VllmProcess,
) -> None:
    named = {"adapters": {"a": "/a", "b": "/b", "c": "/c"}}
    said = vllm_process.run(LOAD, named)
    assert said.strip() == "adapters: `b` cannot be loaded: it has no DoRA ['a', 'b', 'c']"


def test_a_model_whose_own_adapter_cannot_be_loaded_does_not_start(
    vllm_process: VllmProcess,
) -> None:
    said = vllm_process.run(LOAD.replace("== 2", "== 1"), {"adapter_path": "/a"})
    assert said.strip() == "`adapter_path`: vLLM cannot load this adapter: it has no DoRA"
