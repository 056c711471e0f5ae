"""Engines are asked what they make of models, once, and whatever they answer. The engine is a
script that answers as scripts/describe_model.py does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.config import ModelConfig
from orchestrator.client.describing import Installed, ask_engines
from orchestrator.estimate.description import Question, remembered
from orchestrator.estimate.running import Card
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, MakeModel

CARD = Card("NVIDIA H200", 141 * 2**30)


class Engine:
    """A Python of an environment; `answers` are the lines that it prints for its questions."""

    def __init__(self, directory: Path) -> None:
        self.python = directory / "python"
        self._asked = directory / "asked"

    def answers(self, *lines: str, exit_code: int = 0) -> None:
        printed = "\n".join(f"echo '{line}'" for line in lines)
        noted = f"cat >> {self._asked}; echo again >> {self._asked}"
        self.python.write_text(f"#!/bin/sh\n{noted}\n{printed}\necho why >&2\nexit {exit_code}\n")
        self.python.chmod(0o755)

    @property
    def times_asked(self) -> int:
        return self._asked.read_text().count("again\n") if self._asked.exists() else 0


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    return Engine(tmp_path)


def installed(engine: Engine, path: Path, name: str = "cuda-vllm") -> Installed:
    return Installed(ModelConfig(engine=name, model_path=str(path)), name, "0.26.0", engine.python)


def test_an_answer_is_remembered_until_the_model_or_the_release_changes(
    engine: Engine, make_model: MakeModel
) -> None:
    engine.answers(json.dumps({"release": "0.26.0", "context_len": 4711}))
    path = make_model(QWEN2_HALF_B)
    subject = installed(engine, path)
    assert list(ask_engines([subject], CARD)) == []
    answer = remembered(Question.of(subject.model, subject.engine, subject.release, CARD))
    assert answer is not None and answer.context_len == 4711
    assert list(ask_engines([subject], CARD)) == []
    assert engine.times_asked == 1
    list(ask_engines([subject._replace(release="0.33.0")], CARD))
    assert engine.times_asked == 2
    (path / "config.json").write_text(json.dumps(QWEN2_HALF_B | {"num_hidden_layers": 25}))
    list(ask_engines([subject], CARD))
    assert engine.times_asked == 3


def test_two_models_of_one_environment_are_asked_about_at_once(
    engine: Engine, make_model: MakeModel
) -> None:
    engine.answers(*(json.dumps({"release": "0.26.0", "context_len": n}) for n in (1, 2)))
    subjects = [installed(engine, make_model(QWEN2_HALF_B, name)) for name in ("a", "b")]
    assert list(ask_engines(subjects, CARD)) == []
    assert engine.times_asked == 1


def test_an_engine_that_fails_is_a_note_and_is_asked_again(
    engine: Engine, make_model: MakeModel
) -> None:
    engine.answers(exit_code=1)
    subject = installed(engine, make_model(QWEN2_HALF_B))
    for times in (1, 2):
        (problem,) = ask_engines([subject], CARD)
        assert "cannot be asked what it makes of the model: why" in problem
        assert engine.times_asked == times


def test_an_engine_that_does_not_answer_is_left_alone_in_time(
    engine: Engine, make_model: MakeModel
) -> None:
    engine.python.write_text("#!/bin/sh\nexec sleep 60\n")
    engine.python.chmod(0o755)
    (problem,) = ask_engines([installed(engine, make_model(QWEN2_HALF_B))], CARD, within_s=0.2)
    assert "did not say within" in problem


def test_answers_that_came_in_time_are_remembered(engine: Engine, make_model: MakeModel) -> None:
    answer = json.dumps({"release": "0.26.0", "context_len": 4711})
    engine.python.write_text(f"#!/bin/sh\necho '{answer}'\nprintf '{{'\nexec sleep 60\n")
    engine.python.chmod(0o755)
    subjects = [installed(engine, make_model(QWEN2_HALF_B, name)) for name in ("a", "b")]
    (problem,) = ask_engines(subjects, CARD, within_s=0.5)
    assert "did not say within" in problem
    asked = [Question.of(each.model, each.engine, each.release, CARD) for each in subjects]
    first, second = map(remembered, asked)
    assert first is not None
    assert (first.context_len, second) == (4711, None)


@pytest.mark.parametrize("name", ["cuda-trt", "llama-cpp", "mock"])
def test_engines_that_cannot_say_are_not_asked(
    engine: Engine, make_model: MakeModel, name: str
) -> None:
    engine.answers()
    assert list(ask_engines([installed(engine, make_model(QWEN2_HALF_B), name)], CARD)) == []
    assert engine.times_asked == 0


def test_a_model_that_is_not_here_is_left_to_the_estimate(engine: Engine, tmp_path: Path) -> None:
    engine.answers()
    assert list(ask_engines([installed(engine, tmp_path / "nowhere")], CARD)) == []
    assert engine.times_asked == 0
