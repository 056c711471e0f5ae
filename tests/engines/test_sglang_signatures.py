"""ew's adapter for SGLang uses names that SGLang has: those that were read from the sources of the
release in tests/standins/sglang/signatures.json, and the sources themselves where they are here."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from contract.asked import Guided
from contract.config import ModelConfig, WorkerSpec
from contract.config.recipes import RECIPES
from contract.engines import declaration_of
from contract.messages import Sampling
from contract.paths import ROOT
from orchestrator.environments import Environment
from orchestrator.environments.engine_arguments import known_arguments
from tests.engines.sglang_sources import signatures
from workers.engines.sglang.arguments import server_arguments
from workers.engines.sglang.sampling import sampling_settings

STANDIN = ROOT / "tests" / "standins" / "sglang"
RECORDED: dict[str, list[str]] = json.loads((STANDIN / "signatures.json").read_text())
ADAPTER = ROOT / "workers" / "engines" / "sglang" / "engine.py"
DEMO = ROOT / "deploy" / "demo-model"


def site_packages() -> Path:
    """Return where SGLang lies: EW_TEST_SGLANG, or its environment."""
    found = os.environ.get("EW_TEST_SGLANG")
    if found:
        return Path(found)
    for path in (ROOT / ".ew/envs/ew-cuda-sglang").glob("lib/python3*/site-packages"):
        return path
    pytest.skip("no SGLang: EW_TEST_SGLANG=DIR, with its wheel unpacked there")


def test_the_record_is_what_the_sources_say() -> None:
    assert signatures(site_packages()) == RECORDED


def test_engine_args_are_checked_against_the_sources(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.12/site-packages"
    site.mkdir(parents=True)
    (site / "sglang").symlink_to(site_packages() / "sglang")
    release = Environment("e", "cuda-sglang", "0.5.23", "uv", {}, "cuda", "", 0.0, tmp_path)
    known = known_arguments("cuda-sglang", release)
    assert known is not None
    assert known.names == set(RECORDED["ServerArgs"])


def test_the_adapter_gives_arguments_that_the_release_takes() -> None:
    model = ModelConfig(
        engine="cuda-sglang",
        model_path=str(DEMO),
        quantization="fp8",
        max_model_len=512,
        sleep=True,
        load="on-demand",
    )
    spec = a_spec(model)
    for more in ({}, {"kv_cache_tokens": 2**14}, {"gpu_memory_fraction": 0.5}):
        given = server_arguments(spec.model_copy(update=more), {"other": "/adapter"})
        assert given.keys() <= set(RECORDED["ServerArgs"])
    declared = declaration_of("cuda-sglang")
    assert declared.same_as.keys() <= set(RECORDED["ServerArgs"])
    assert declared.gpu_memory is not None
    figures = declared.gpu_memory.figures
    named = {getattr(figures, name) for name in figures.__struct_fields__} - {""}
    assert named <= set(RECORDED["ServerArgs"])


@pytest.mark.parametrize(
    "kind", ["json", "json_object", "regex", "choice", "grammar", "structural_tag"]
)
def test_the_adapter_samples_with_fields_that_the_release_has(kind: str) -> None:
    value = '["a", "b"]' if kind == "choice" else "{}"
    asked = Sampling(stop=("x",), top_k=0, guided=Guided(kind, value))  # type: ignore[arg-type]
    settings = sampling_settings(asked, {"temperature": 0.7}, 9, 0)
    assert settings.keys() <= set(RECORDED["SamplingParams"])
    assert "sampling_seed" in RECORDED["SamplingParams"]


@pytest.mark.parametrize("file", [ADAPTER, STANDIN / "sglang" / "engine.py"], ids=lambda f: f.stem)
def test_calls_give_parameters_that_the_release_takes(file: Path) -> None:
    """Of the adapter: what it gives. Of the stand-in: what it takes."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="async_generate")):
                given = {keyword.arg for keyword in node.keywords}
            case ast.AsyncFunctionDef(name="async_generate"):
                arguments = node.args
                given = {each.arg for each in (*arguments.args[1:], *arguments.kwonlyargs)}
            case _:
                continue
        assert given <= set(RECORDED["Engine.async_generate"])
        break
    else:
        pytest.fail("nothing calls `async_generate`")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("FunctionCallParser", "function_call/function_call_parser.py"),
        ("ReasoningParser", "parser/reasoning_parser.py"),
    ],
)
def test_the_stand_ins_parsers_are_asked_as_the_releases_are(kind: str, file: str) -> None:
    source = ast.parse((STANDIN / "sglang" / "srt" / file).read_text())
    (found,) = (
        node for node in source.body if isinstance(node, ast.ClassDef) and node.name == kind
    )
    methods = [node for node in found.body if isinstance(node, ast.FunctionDef)]
    asked = {f"{kind}.{method.name}": method for method in methods if method.name[:2] != "_c"}
    recorded = {name for name in RECORDED if name.startswith(f"{kind}.")}
    assert asked.keys() == recorded
    for name, method in asked.items():
        assert [each.arg for each in method.args.args[1:]] == RECORDED[name]


def test_the_parsers_that_checkpoints_ask_for_are_there() -> None:
    rows = RECIPES["sglang"]
    assert {tool for _, tool, _ in rows if tool} <= set(RECORDED["TOOL_CALL_PARSER_NAMES"])
    reasoning = {reasoning for _, _, reasoning in rows if reasoning}
    assert reasoning <= set(RECORDED["REASONING_PARSER_NAMES"])


def a_spec(model: ModelConfig) -> WorkerSpec:
    return WorkerSpec(
        name="w", model_id="m", model=model, engine="cuda-sglang", env="-", redis_url="redis://x"
    )
