"""A GGUF file, from setting its engine up to an answer of llama.cpp's real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.engines.gguf_model import write_gguf
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal

DEMO = ROOT / "deploy" / "demo-model"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_model_answers_from_a_gguf_file(host: Host, terminal: Terminal) -> None:
    file = write_gguf(DEMO, terminal.state.parent / "demo.gguf")
    terminal.configure(
        **{
            "Team/tiny": {
                "engine": "llama-cpp",
                "model_path": str(file),
                "max_model_len": 512,
                "sampling": {"temperature": 0},
            }
        }
    )
    assert terminal.run("setup", "--engine", "llama-cpp").code == 0
    mistyped = json.dumps(
        {"engine": "llama-cpp", "model_path": str(file), "engine_args": {"n_batc": 1}}
    )
    checked = terminal.run("config", "check", EW_MODELS__MISTYPED=mistyped)
    assert "`models.mistyped.engine_args.n_batc`: llama-cpp 2026.10" in checked.err
    assert "did you mean `n_batch`?" in checked.err
    assert terminal.run("start").code == 0
    chat = terminal.run("chat", "Team/tiny", stdin="What is ew?\n")
    assert chat.out.startswith("ew is a gateway in front of several LLM engines."), chat
    worker = json.loads(terminal.run("status", "--json").out)["models"][0]["workers"][0]
    assert (worker["engine"], worker["env"], worker["slots"]) == ("llama-cpp", "ew-llama-cpp", 4)
    assert terminal.run("stop").code == 0
    assert host.processes() == []
    assert not [entry for entry in Path("/proc").iterdir() if _runs(entry, str(file))]


def _runs(process: Path, file: str) -> bool:
    try:
        return process.name.isdigit() and file.encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False
