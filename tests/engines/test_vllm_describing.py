"""scripts/describe_model.py in vLLM's own environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.paths import ROOT
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


def test_it_writes_nothing_into_the_temporary_folder(
    vllm_process: VllmProcess, tmp_path: Path
) -> None:
    said = vllm_process.run(DESCRIBE, [str(MODEL_DIR), str(tmp_path)])
    (first, second), left = json.loads(said.splitlines()[-1])
    assert first == second
    assert [each["kind"] for each in first] == ["full"]
    assert left == []
