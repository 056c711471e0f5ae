"""Which library compiles a model's constraints in vLLM, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engines.vllm_process import VllmProcess

SCRIPT = """
import json
from types import SimpleNamespace
from vllm import SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.sampling_params import StructuredOutputsParams
from contract.config import ModelConfig
from workers.engine import JobRejected
from workers.engines.vllm.constraints import check_tag, choose_library, refusal

def chosen(asked=None, **tokenizer):
    entry = ModelConfig(model_path="x", engine_args=asked or {})
    outputs = StructuredOutputsConfig(**(asked or {}).get("structured_outputs_config", {}))
    config = SimpleNamespace(structured_outputs_config=outputs)
    library = choose_library(entry, config, SimpleNamespace(**tokenizer))
    return [library, outputs.backend]

def outputs(backend):
    return {"structured_outputs_config": {"backend": backend}}

def checked(library, **constraint):
    try:
        return check_tag(StructuredOutputsParams(**constraint), library)
    except JobRejected as error:
        return str(error)

def told(library, **constraint):
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**constraint))
    return str(refusal(ValueError("no"), params, library))

UNKNOWN = {"type": "integer", "multipleOf": 3}
tag = json.dumps({"type": "structural_tag", "format": {}})
print(json.dumps({
    "unnamed": chosen(), "empty": chosen({"structured_outputs_config": {}}),
    "tekken": chosen(is_tekken=True), "older Mistral": chosen(is_tekken=False),
    "guidance": chosen(outputs("guidance")), "auto": chosen(outputs("auto")),
    "an earlier release": choose_library(ModelConfig(model_path="x"), SimpleNamespace(), None),
    "tag": [checked("guidance", structural_tag=tag), checked("xgrammar", structural_tag=tag)],
    "no tag": checked("guidance", json={}),
    "schema": [told("xgrammar", json=UNKNOWN), told("guidance", json=UNKNOWN)],
    "regex": told("xgrammar", regex="[a"),
    "other fault": [told("xgrammar", json={}), told("xgrammar", structural_tag=tag)],
}))
"""


@pytest.fixture(scope="module")
def said(vllm_process: VllmProcess) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(vllm_process.run(SCRIPT))
    return result


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_one_library_compiles_all_constraints_unless_the_entry_says_auto(
    said: dict[str, Any],
) -> None:
    assert said["unnamed"] == said["empty"] == said["older Mistral"] == ["xgrammar"] * 2
    assert said["tekken"] == said["guidance"] == ["guidance"] * 2
    assert said["auto"] == ["auto"] * 2
    assert said["an earlier release"] == ""


@pytest.mark.vllm
def test_guidance_is_given_no_structural_tag(said: dict[str, Any]) -> None:
    refused, by_xgrammar = said["tag"]
    assert "cannot keep to structural tags" in refused
    assert by_xgrammar is said["no tag"] is None


@pytest.mark.vllm
def test_who_is_refused_a_constraint_is_told_of_the_other_library(said: dict[str, Any]) -> None:
    by_xgrammar, by_guidance = said["schema"]
    for told in (by_xgrammar, said["regex"]):
        assert told.startswith("no; guidance may know it: ")
    assert [by_guidance, *said["other fault"]] == ["no"] * 3
