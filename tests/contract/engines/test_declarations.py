"""The engines are declared in one place, and code asks there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.config import ModelConfig
from contract.engines import (
    declaration_of,
    declared_engines,
    engine_names,
    members_of,
)
from contract.engines.declaration import ENGINES_DIR
from contract.paths import ROOT
from tests.engines.contract.engines import ALL

NAMES = sorted(declared_engines())


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_is_named_as_its_file_and_its_adapter_is_there(name: str) -> None:
    declared = declared_engines()[name]
    assert declared.engine == name
    module, _, attribute = declared.adapter.partition(":")
    source = ROOT / f"{module.replace('.', '/')}.py"
    defined = {
        node.name
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    assert attribute in defined


@pytest.mark.parametrize("name", NAMES)
def test_what_a_declaration_speaks_of_exists(name: str) -> None:
    declared = declared_engines()[name]
    keys = set(ModelConfig.model_fields)
    assert set(declared.same_as.values()) <= keys
    assert set(declared.unheeded) <= keys
    assert set(declared.abilities) <= ALL
    assert declared.arguments
    assert bool(declared.library) == declared.has_environment
    for source in declared.arguments:
        is_own = source.file.startswith("workers/")
        assert not is_own or (ROOT / source.file).is_file()


def test_the_configuration_takes_the_declared_engines_and_no_other() -> None:
    for name in engine_names():
        assert ModelConfig(engine=name, model_path="x").engine == name
    with pytest.raises(ValidationError, match="'cuda-vllm'"):
        ModelConfig(engine="cuda-vlm", model_path="x")


def test_a_name_may_stand_for_a_family() -> None:
    assert [each.engine for each in members_of("vllm")] == ["cuda-vllm", "cpu-vllm"]
    assert declaration_of("vllm").engine == "cuda-vllm"
    assert [each.engine for each in members_of("mock")] == ["mock"]
    with pytest.raises(LookupError, match="`nothing` is not declared"):
        members_of("nothing")


def test_a_declaration_that_is_misspelt_is_refused_by_its_name(tmp_path: Path) -> None:
    good = json.loads((ENGINES_DIR / "mock.json").read_text())
    (tmp_path / "mock.json").write_text(json.dumps(good | {"can_slep": True}))
    with pytest.raises(ValueError, match=r"mock\.json: .*can_slep"):
        declared_engines(tmp_path)


def test_uuids_are_seen_by_releases_from_the_declared_one_on() -> None:
    vllm = declaration_of("cuda-vllm")
    assert not vllm.sees_uuids("0.25.1")
    assert vllm.sees_uuids("0.26.0")
    assert vllm.sees_uuids("1.0rc1")
    assert not vllm.sees_uuids("")
    assert declaration_of("cuda-trt").sees_uuids("")
    assert not declaration_of("cuda-sglang").sees_uuids("0.5.23")


def test_reading_the_declarations_imports_nothing_heavy() -> None:
    code = (
        "import sys; from contract.engines import declared_engines; declared_engines(); "
        "print([m for m in ('pydantic', 'redis', 'typer', 'torch') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


#: Code for one engine: the suite's own set-up, and the command that compiles its plans.
_OF_ONE = ("orchestrator/cli/install/test.py", "orchestrator/client/conversion.py")


def test_only_declarations_and_adapters_compare_an_engines_name() -> None:
    """Elsewhere, `== "cuda-vllm"` or a `case` of it decides what a declaration should say."""
    adapters = ROOT / "workers" / "engines"
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("contract", "gateway", "orchestrator", "workers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if adapters not in path.parents
        for node in ast.walk(ast.parse(path.read_text()))
        if _decides(node) or (_names(node) and path.relative_to(ROOT).as_posix() not in _OF_ONE)
    ]
    assert found == []


def _names(node: ast.AST) -> bool:
    """Return whether it is the name of an engine with an environment, whatever it is used for."""
    declared = map(declaration_of, engine_names())
    own = {each.engine for each in declared if each.has_environment}
    return isinstance(node, ast.Constant) and node.value in own


def _decides(node: ast.AST) -> bool:
    """Return whether a comparison or a `case` has an engine's name in it."""
    if not isinstance(node, ast.Compare | ast.MatchValue):
        return False
    texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
    return bool(texts & set(engine_names()))
