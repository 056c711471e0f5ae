"""ew's own reading of published configurations against what vLLM itself makes of them, in its
environment, without a GPU and without weights.

published_models.json has the JSON files of real checkpoints as they were published, cut down to
what decides memory, and for their safetensors files the names, types and shapes of some tensors
that add up to the real size. family_defaults.json has further ones without weights: as
transformers 5.19 saves those of a family, or as published (LFM2, MiMo).
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any, Final

import pytest

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, Question, ask, differences, remembered
from orchestrator.estimate.running import Card
from tests.engines.contract.engines import vllm_python

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
PUBLISHED: Final[dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_models.json").read_text()
)
DEFAULTS: Final[dict[str, Any]] = json.loads(
    Path(__file__).with_name("family_defaults.json").read_text()
)
NO_WEIGHTS: Final = {"model.safetensors": {"model.layers.0.w": ["BF16", [16, 16]]}}
ELEMENT: Final = {
    "BF16": 2,
    "F16": 2,
    "F32": 4,
    "I32": 4,
    "F8_E4M3": 1,
    "U8": 1,
    "F8_E8M0": 1,
    "F4": 0.5,
}
CARD: Final = Card("NVIDIA H200", 141 * 2**30)
#: Heads that guess for another model, and are none themselves.
DRAFTS: Final = {"Qwen3-8B-eagle3"}
#: A question beside those of the models.
IN_EIGHT_BITS: Final = "GLM-5 with a cache in eight bits"
#: Not read by ew, and why; vLLM cannot load them either.
NOT_READ: Final = {
    "index-null-metadata": "it lacks model-00002-of-00002.safetensors",
    "quant-string": "Expected `object",
}


def write(directory: Path, files: dict[str, Any], tensors: dict[str, Any]) -> None:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    for name, header in tensors.items():
        offset, entries = 0, {}
        for tensor, (dtype, shape) in header.items():
            end = offset + int(prod(shape) * ELEMENT[dtype])
            entries[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries).encode()
        (directory / name).write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("published")
    for name, content in PUBLISHED.items():
        write(home / name, content.get("files", {}), content.get("tensors", {}))
    for name, config in DEFAULTS.items():
        write(home / name, {"config.json": config}, NO_WEIGHTS)
    return home


@pytest.fixture(scope="module")
def answers(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Description | None]:
    """Return vLLM's description of each; asked once for all of them."""
    python = Path(vllm_python())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EW_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        names = [name for name in (*PUBLISHED, *DEFAULTS) if name not in DRAFTS]
        questions = {name: question(published / name) for name in names}
        questions[IN_EIGHT_BITS] = question(published / "GLM-5", kv_cache_dtype="fp8")
        assert ask([*questions.values()], python, within_s=280) == ""
        return {name: remembered(each) for name, each in questions.items()}


def question(path: Path, **engine_args: Any) -> Question:
    model = ModelConfig(model_path=str(path), engine_args=engine_args)
    return Question.of(model, "cpu-vllm", "0.32.0", CARD)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in DRAFTS])
def test_ew_reads_what_vllm_reads(
    published: Path, answers: dict[str, Description | None], name: str
) -> None:
    answer = answers[name]
    assert answer is not None
    if name in NOT_READ:
        with pytest.raises(UserError, match=NOT_READ[name]):
            read_checkpoint(published / name)
        return
    own = read_checkpoint(published / name, answer.release)
    assert differences(own, answer) == []
    weights = own.weights.layers + own.weights.embedding + own.weights.head
    if not own.quantization:
        assert weights.size_bytes(2) == pytest.approx(answer.weight_bytes, rel=0.05)


@pytest.mark.parametrize("name", DEFAULTS)
def test_ew_reads_what_a_family_leaves_out(
    published: Path, answers: dict[str, Description | None], name: str
) -> None:
    answer = answers[name]
    assert answer is not None
    assert not answer.error
    assert differences(read_checkpoint(published / name, answer.release), answer) == []


def test_a_cache_in_eight_bits_is_packed_with_an_indexer(
    published: Path, answers: dict[str, Description | None]
) -> None:
    answer = answers[IN_EIGHT_BITS]
    assert answer is not None
    own = read_checkpoint(published / "GLM-5", answer.release).shape.caches
    assert sorted(answer.caches, key=str) == sorted(own, key=str)


def test_what_vllm_runs_at_once_depends_on_the_card(
    answers: dict[str, Description | None],
) -> None:
    answer = answers["Qwen3-8B"]
    assert answer is not None
    assert (answer.sequences, answer.batched_tokens) == (1024, 8192)
