"""Models that ew adds to the configuration by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.config import load_config
from contract.paths import ROOT
from orchestrator.config_file import add_model
from orchestrator.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text('{"models": {"demo": {"model_path": "deploy/demo-model"}}}')
    return file


def test_a_repository_becomes_a_model_with_a_plain_name(path: Path) -> None:
    repository = "Qwen/Qwen2.5-0.5B-Instruct"
    assert add_model(path, load_config(path), repository) == ("qwen2.5-0.5b-instruct", True)
    config = load_config(path)
    assert list(config.models) == ["demo", "qwen2.5-0.5b-instruct"]
    model = config.models["qwen2.5-0.5b-instruct"]
    assert (model.model_path, model.aliases) == (repository, (repository,))
    assert add_model(path, config, repository) == ("qwen2.5-0.5b-instruct", False)


def test_what_is_configured_is_not_added_again(path: Path) -> None:
    before = path.read_text()
    config = load_config(path)
    assert add_model(path, config, "demo") == ("demo", False)
    assert add_model(path, config, str(ROOT / "deploy" / "demo-model")) == ("demo", False)
    assert path.read_text() == before


def test_a_directory_elsewhere_is_named_in_full(path: Path, tmp_path: Path) -> None:
    (tmp_path / "My Model").mkdir()
    model_id, _ = add_model(path, load_config(path), str(tmp_path / "My Model"))
    assert model_id == "my-model"
    model = load_config(path).models[model_id]
    assert (model.model_path, model.aliases) == (str(tmp_path / "My Model"), ())


def test_a_name_that_is_taken_gets_a_number(path: Path) -> None:
    model_id, _ = add_model(path, load_config(path), "somebody/demo")
    assert model_id == "demo-2"


def test_what_cannot_be_a_model_is_not_added(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(UserError, match="neither a directory nor a Hugging Face repository"):
        add_model(path, load_config(path), "/no/such/model")
    assert path.read_text() == before


def test_the_file_keeps_its_mode_and_the_rest_of_its_content(path: Path) -> None:
    path.write_text(json.dumps({"$schema": "./x", "models": {}, "gateway": {"port": 1}}))
    path.chmod(0o640)
    add_model(path, load_config(path), "a/b")
    data = json.loads(path.read_text())
    assert list(data) == ["$schema", "models", "gateway"]
    assert path.stat().st_mode & 0o777 == 0o640
