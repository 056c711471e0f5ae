"""The arguments that an engine's installed release takes.

They are read from the source of the release, as it lies in the engine's environment: to import
vLLM takes ten seconds, to parse this one file of it 30 ms, so nothing has to be cached. What cannot
be read is not guessed: None says so. llama.cpp's are attributes of a compiled library, which says
them itself in 0.2 s.
"""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.paths import ROOT
from orchestrator.environments import Environment

#: Of ew's own adapters: the dataclass with their settings.
_MOCK: Final = (ROOT / "workers/engines/mock.py", "MockScript")
_OPENAI: Final = (ROOT / "workers/engines/upstream.py", "UpstreamSettings")
#: Of the adapter for TensorRT-LLM, among `engine_args`.
_BEAM_WIDTH: Final = "beam_width"
_PATIENCE_S: Final = 30
_ATTRIBUTES: Final = """
import json, xllamacpp
def names(value):
    return [name for name in dir(value) if not name.startswith("_")]
whole = xllamacpp.CommonParams()
print(json.dumps(names(whole) + [f"{part}.{name}" for part in names(whole)
                                 for name in names(getattr(whole, part))]))
"""


class Known(NamedTuple):
    """The names that a release takes, and what it calls itself. `is_sure`: it takes no others."""

    release: str
    names: frozenset[str]
    is_sure: bool = True


def known_arguments(engine: str, environment: Environment | None) -> Known | None:
    """What may be in `engine_args` of a model that this engine runs in this environment (None:
    ew's own). None if it cannot be known, as where the environment is not there."""
    if engine == "mock":
        return _found("the mock engine", _fields(*_MOCK))
    if engine == "openai":
        return _found("the openai engine", _fields(*_OPENAI))
    if environment is None:
        return None
    release = f"{engine} {environment.version}"
    match engine:
        case "cpu-vllm" | "cuda-vllm":
            file = _source(environment, "vllm/engine/arg_utils.py")
            return _found(release, _fields(file, "AsyncEngineArgs"))
        case "cuda-trt":
            return _found(release, frozenset(_trtllm(environment)), is_sure=False)
        case "llama-cpp":
            return _found(release, _llama_cpp(environment))
    return None


def _found(release: str, names: frozenset[str], *, is_sure: bool = True) -> Known | None:
    return Known(release, names, is_sure) if names else None


def _source(environment: Environment, path: str) -> Path:
    found = environment.path.glob(f"lib/python3*/site-packages/{path}")
    return next(found, environment.path / path)


def _fields(file: Path, kind: str) -> frozenset[str]:
    """The fields of a class and of those in the same file that it is derived from; none if there
    is no such class."""
    classes = _classes(file)
    return frozenset(_inherited(classes, kind))


def _inherited(classes: dict[str, ast.ClassDef], kind: str) -> Iterator[str]:
    if kind not in classes:
        return
    yield from _own_fields(classes[kind])
    for base in classes[kind].bases:
        yield from _inherited(classes, ast.unparse(base))


def _own_fields(kind: ast.ClassDef) -> Iterator[str]:
    for statement in kind.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind_of_field):
                if "ClassVar" not in ast.unparse(kind_of_field):
                    yield name


def _trtllm(environment: Environment) -> Iterator[str]:
    """Fields of all its `...LlmArgs` with their other names, and what its `LLM` takes besides.
    Its backends have different ones; which of them runs a model, the model's files say."""
    file = _source(environment, "tensorrt_llm/llmapi/llm_args.py")
    kinds = [kind for name, kind in _classes(file).items() if name.endswith("LlmArgs")]
    for kind in kinds:
        yield from (name for name in _own_fields(kind) if not name.startswith("_"))
        yield from _aliases(kind)
    if kinds:
        yield _BEAM_WIDTH
        yield from _popped(_source(environment, "tensorrt_llm/llmapi/llm.py"))


def _aliases(kind: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(kind):
        if isinstance(node, ast.keyword) and node.arg in ("alias", "validation_alias"):
            yield from _texts(node.value)


def _popped(file: Path) -> Iterator[str]:
    """The texts in `kwargs.pop("x")` and `kwargs.get("x")`."""
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("kwargs.pop", "kwargs.get"):
            yield from _texts(node.args[0])


def _texts(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _classes(file: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _parsed(file).body if isinstance(node, ast.ClassDef)}


def _parsed(file: Path) -> ast.Module:
    """Nothing at all where there is no such file, or it is written for another Python."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _llama_cpp(environment: Environment) -> frozenset[str]:
    command = [str(environment.python), "-I", "-c", _ATTRIBUTES]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=True)
        return frozenset(json.loads(done.stdout)) | _fields(*_OPENAI)
    except (OSError, subprocess.SubprocessError, ValueError):
        return frozenset()
