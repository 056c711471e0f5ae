"""scripts/describe_model.py in vLLM's own environment."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from contract.paths import ROOT
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, differences
from tests.engines.contract.engines import MODEL_DIR
from tests.engines.vllm_process import VllmProcess

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

#: Describes a model twice, and prints its layers and what is in the temporary folder meanwhile.
DESCRIBE = f"""
import json, os, sys, tempfile
sys.path.insert(0, {str(ROOT / "scripts")!r})
import describe_model as script
path, temporary = json.load(sys.stdin)
os.environ["TMPDIR"] = tempfile.tempdir = temporary
script.prepare()
request = {{"arguments": {{"model": path}}, "card_name": "NVIDIA H200", "card_bytes": 2**37}}
caches = [script.describe(request)["caches"] for _ in range(2)]
print("\\n" + json.dumps([caches, os.listdir(temporary)]))
"""

#: Writes tiny models that see and hear, and prints what vLLM says of each.
DESCRIBE_MEDIA = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "scripts")!r})
import describe_model as script
from tests.engines import audio_model, speech_model, vision_model
demo, home = map(Path, json.load(sys.stdin))
script.prepare()
said = {{}}
for kind in (audio_model, speech_model, vision_model):
    name = kind.__name__.rpartition(".")[2]
    kind.main(demo, home / name)
    arguments = {{"model": str(home / name), "skip_tokenizer_init": True}}
    request = {{"arguments": arguments, "card_name": "NVIDIA H200", "card_bytes": 2**37}}
    said[name] = script.describe(request)
print("\\n" + json.dumps(said))
"""

#: Asks for the places of a mixture of experts of a class of its own, and whether vLLM takes what
#: only its second model runner can run.
PRETEND = f"""
import json, sys, types
sys.path.insert(0, {str(ROOT / "scripts")!r})
import describe_model as script
script.prepare()
from vllm.config import VllmConfig
class MoERunner:
    moe_config = types.SimpleNamespace(
        num_experts=4, hidden_dim=10, intermediate_size_per_partition=7)
class OfAFamily(MoERunner):
    pass
refuses = getattr(VllmConfig, "_validate_v1_model_runner", lambda config: None)
print(json.dumps([script.widths_of(OfAFamily(), 0), refuses(None)]))
"""


def test_it_writes_nothing_into_the_temporary_folder(
    vllm_process: VllmProcess, tmp_path: Path
) -> None:
    said = vllm_process.run(DESCRIBE, [str(MODEL_DIR), str(tmp_path)])
    (first, second), left = json.loads(said.splitlines()[-1])
    assert first == second
    assert [each["kind"] for each in first] == ["full"]
    assert left == []


def test_media_are_counted_by_its_own_processors(vllm_process: VllmProcess, tmp_path: Path) -> None:
    said = vllm_process.run(DESCRIBE_MEDIA, [str(MODEL_DIR), str(tmp_path)])
    answers = msgspec.json.decode(said.splitlines()[-1], type=dict[str, Description])
    assert {name: each.media for name, each in answers.items()} == {
        # Two places of its encoder are a token; two seconds of speech; an image of 28 x 28 pixels.
        "audio_model": {"audio": 750},
        "speech_model": {"audio": 100},
        "vision_model": {"image": 4},
    }
    for name, answer in answers.items():
        assert not answer.error
        assert differences(read_checkpoint(tmp_path / name, answer.release), answer) == []


def test_experts_of_a_familys_own_class_have_places(vllm_process: VllmProcess) -> None:
    """And a model of the second model runner alone (Step 5) is described."""
    widths, refused = json.loads(vllm_process.run(PRETEND).splitlines()[-1])
    assert widths == {"whole": 4 * 3 * 10, "divided": 4 * 3 * 7}
    assert refused is None
