"""The parsers that checkpoints ask for, held to those that the installed vLLM has."""

from __future__ import annotations

import json

from contract.config.recipes import RECIPES
from tests.engines.vllm_process import VllmProcess

_SCRIPT = """
import json
from contract.config import ModelConfig
from workers.engines.vllm.parsing import known as parsers
names = parsers._names()
parsers._names = lambda: names._replace(tool=names.tool - {"hermes"})

def known(**entry):
    model = ModelConfig(engine="cpu-vllm", model_path="Qwen/Qwen3-8B", **entry)
    return parsers.known_parsers(model)[:2]

print(json.dumps({
    "tools": sorted(names.tool),
    "reasoning": sorted(names.reasoning),
    "of an older release": [known(), known(tool_parser="hermes")],
}))
"""


def test_every_parser_that_a_checkpoint_asks_for_is_there(vllm_process: VllmProcess) -> None:
    found = json.loads(vllm_process.run(_SCRIPT))
    assert {tool for _, tool, _ in RECIPES["vllm"] if tool} <= set(found["tools"])
    reasoning = {reasoning for _, _, reasoning in RECIPES["vllm"] if reasoning}
    assert reasoning <= set(found["reasoning"])
    assert found["of an older release"] == [[None, "qwen3"], ["hermes", "qwen3"]]
