"""Sampling in TensorRT-LLM's words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from contract.messages import Sampling
from workers.engines.shared.regex import alternation
from workers.engines.trtllm.model_files import ModelFiles
from workers.engines.trtllm.sampling import beam_settings, sampling_settings


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [7, 8], "temperature": 0.6, "top_k": 20, "max_new_tokens": 9})
    )
    return ModelFiles(tmp_path)


def settings(files: ModelFiles, choice: int = 0, emitted: int = 0, **asked: Any) -> dict[str, Any]:
    return sampling_settings(Sampling(**asked), files, 100, emitted, choice)


@pytest.mark.parametrize("asked", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_k": 1}])
def test_greedy_is_said_in_the_one_way_that_every_release_understands(
    files: ModelFiles, asked: dict[str, Any]
) -> None:
    chosen = settings(files, **asked)
    assert chosen["top_k"] == 1
    assert chosen["temperature"] != 0
    assert chosen["top_p"] is None


def test_nothing_is_left_open_that_would_make_a_release_decode_greedily(files: ModelFiles) -> None:
    chosen = settings(files, temperature=0.9)
    assert chosen["temperature"] == 0.9
    assert chosen["top_p"] == 1.0
    assert chosen["top_k"] == 20


def test_what_a_request_leaves_open_is_as_the_model_has_it(files: ModelFiles) -> None:
    assert settings(files)["temperature"] == 0.6
    assert files.default_max_tokens == 9


def test_requests_without_a_seed_are_not_alike_and_choices_of_one_seed_differ(
    files: ModelFiles,
) -> None:
    assert settings(files)["seed"] != settings(files)["seed"]
    assert settings(files, seed=5)["seed"] == 5
    assert settings(files, seed=5, choice=1)["seed"] == 6
    assert settings(files, seed=-1)["seed"] == 2**64 - 1


def test_all_of_the_models_end_tokens_end_an_answer_unless_asked_not_to(files: ModelFiles) -> None:
    assert settings(files)["stop_token_ids"] == [7, 8]
    ignoring = settings(files, ignore_eos=True)
    assert ignoring["stop_token_ids"] is None
    assert ignoring["ignore_eos"] is True


def test_tokens_that_were_emitted_before_count_against_the_least_number(files: ModelFiles) -> None:
    assert settings(files, min_tokens=10, emitted=4)["min_tokens"] == 6
    assert "min_tokens" not in settings(files, min_tokens=10, emitted=10)


def test_beam_search_is_asked_for_by_best_of_and_never_by_beam_width(files: ModelFiles) -> None:
    chosen = beam_settings(settings(files), 4, 2)
    assert (chosen["use_beam_search"], chosen["best_of"], chosen["n"]) == (True, 4, 2)
    assert not {"beam_width", "temperature", "top_k", "seed"} & chosen.keys()


def test_a_choice_is_a_pattern_that_matches_the_choices_and_nothing_else() -> None:
    choices = ["a.b", "(c)", "yes|no", "x/y", "\\d", "Grüße"]
    pattern = alternation(choices)
    assert all(re.fullmatch(pattern, choice) for choice in choices)
    assert not any(re.fullmatch(pattern, other) for other in ("aXb", "c", "yes", "5", ""))
