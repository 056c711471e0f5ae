"""Models that ew adds to the configuration by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.config import load_config
from contract.config.loading import revision_of
from contract.paths import ROOT
from orchestrator.client.conversion import add_to_config
from orchestrator.config.config_file import add_model, set_model
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


COMMENTED = """// my models
{
    "models": {
        // the small one
        "demo": {"engine": "mock", "model_path": "x", "max_batch_size": 2}, // keep: 2
        /* "old": {} */
    },
    "gateway": {"port": 1}
}
"""


def test_comments_and_layout_stay_and_only_the_new_lines_are_new(path: Path) -> None:
    path.write_text(COMMENTED)
    add_model(path, load_config(path), "a/b")
    lines = path.read_text().splitlines()
    assert [line for line in lines if line in COMMENTED.splitlines()] == COMMENTED.splitlines()
    assert lines[6] == '        "b": {'
    assert list(load_config(path).models) == ["demo", "b"]


def test_a_link_to_the_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.json"
    link.parent.mkdir()
    link.symlink_to(path)
    add_model(link, load_config(link), "a/b")
    assert link.is_symlink()
    assert list(load_config(path).models) == ["demo", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "\ufeff{ }",
        '{"models": {}}',
        '{"gateway": {"port": 1}}',
        '{"gateway": {"port": 1},}',
        '{"models": {},\n "gateway": {}}',
        '{\r\n\t"models": {\r\n\t}\r\n}\r\n',
        '{\n "models": { // none yet\n }\n}',
        '{\n "models": {"m": {"engine": "mock", "model_path": "a,}"}}\n}',
        '{\n "models": {"m": {"engine": "mock", "model_path": "a"} /* , */ }\n}',
        '{\n "gateway": {"port": 1}\n // the end\n}\n',
        COMMENTED,
        COMMENTED.replace("}, // keep", "} // keep"),
    ],
)
def test_a_model_is_added_however_the_file_is_written(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    before = load_config(path)
    add_model(path, before, "a/new-one")
    after = load_config(path)
    assert list(after.models) == [*before.models, "new-one"]
    assert after.gateway == before.gateway
    written = path.read_bytes().decode()
    if "\r\n" in text:
        assert "\n" not in written.replace("\r\n", "")


SERVED = {"engine": "mock", "model_path": "y", "max_batch_size": 8}


def test_new_settings_of_a_model_that_is_there_stand_in_the_place_of_the_old(path: Path) -> None:
    path.write_text(COMMENTED)
    set_model(path, "demo", {**SERVED, "max_input_len": 9})
    line = '"demo": {"engine": "mock", "model_path": "x", "max_batch_size": 2}'
    new = '"demo": {"engine": "mock", "model_path": "y", "max_batch_size": 8, "max_input_len": 9}'
    assert path.read_text() == COMMENTED.replace(line, new)


def test_a_model_with_a_line_for_each_key_gets_another_line(path: Path) -> None:
    text = (
        '{\n  "models": {\n    "m": {\n      "engine": "mock", // ours\n      %s\n    }\n  }\n}\n'
    )
    path.write_text(text % '"model_path": "x"')
    set_model(path, "m", {"model_path": "y", "dtype": "half"})
    assert path.read_text() == text % '"model_path": "y",\n      "dtype": "half"'


def test_settings_that_would_not_be_valid_leave_the_file_as_it_was(path: Path) -> None:
    path.write_text(COMMENTED)
    with pytest.raises(UserError, match="would not be valid") as caught:
        set_model(path, "demo", {"max_batch_size": 0})
    assert caught.value.hint.startswith(f"{path}:5: `models.demo.max_batch_size` is 0; it must be")
    assert path.read_text() == COMMENTED
    assert [file.name for file in path.parent.iterdir()] == [path.name]


ENTRY = '"engine": "mock", "model_path": "x"'


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ('{%s, "dtype": "half"}', "{%s }"),
        ('{"dtype": "half", %s}', "{%s}"),
        ('{%s,\n  "dtype": "half",\n  "replicas": 2}', '{%s,\n  "replicas": 2}'),
        ('{%s,\r\n  "dtype": "half"\r\n}', "{%s\r\n}"),
        ('{%s,\n  "dtype": "half", // why\n}', "{%s,\n  // why\n}"),
        ('{%s, // an entry, with commas\n "dtype": "half"\n}', "{%s // an entry, with commas\n}"),
        ('{%s, "dtype": /* a "b", */ "half" , "replicas": 2}', '{%s, "replicas": 2}'),
        ("{%s}", "{%s}"),
    ],
)
def test_a_key_is_taken_out_and_the_other_text_stays(path: Path, entry: str, left: str) -> None:
    text = '{"models": {"m": %s}}'
    path.write_bytes((text % (entry % ENTRY)).encode())
    before = load_config(path)
    set_model(path, "m", {"dtype": None})
    assert path.read_bytes().decode() == text % (left % ENTRY)
    assert load_config(path).models["m"] == before.models["m"].model_copy(update={"dtype": "auto"})


def test_a_file_that_was_changed_meanwhile_is_not_written(path: Path) -> None:
    known = revision_of(path.read_bytes())
    config, source = set_model(path, "demo", {"replicas": 2}, revision=known, is_trial=True)
    assert (config.models["demo"].replicas, revision_of(path.read_bytes())) == (2, known)
    _, source = set_model(path, "demo", {"replicas": 2}, revision=known)
    assert source.revision == revision_of(path.read_bytes()) != known
    with pytest.raises(UserError, match="has been changed since it was read") as caught:
        set_model(path, "demo", {"replicas": 3}, revision=known)
    assert caught.value.field == "revision"
    assert load_config(path).models["demo"].replicas == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_conversion_is_configured_in_the_file_as_it_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_CONFIG", str(path))
    path.write_text(COMMENTED.replace('"mock"', '"cuda-trt", "tensor_parallel_size": 2'))
    link = path.with_name("link.json")
    link.symlink_to(path)
    sizes = {"max_batch_size": 8, "max_input_len": 9, "max_output_len": 9}
    arguments = {"output": "/plans/demo", "tp_size": 1, "pp_size": 2, **sizes}
    add_to_config(link, "demo", arguments, "trt-next")
    model = load_config(path).models["demo"]
    assert (model.model_path, model.env) == ("/plans/demo", "trt-next")
    assert (model.tensor_parallel_size, model.pipeline_parallel_size) == (1, 2)
    assert model.model_dump(include=set(sizes)) == sizes
    assert link.is_symlink()
    assert '// keep: 2\n        /* "old": {} */' in path.read_text()
