"""The names of SGLang's sources that ew's adapter uses, read without importing them.

python -m tests.engines.sglang_sources SITE_PACKAGES > tests/standins/sglang/signatures.json
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_CALLS: Final = {
    "Engine.async_generate": ("srt/entrypoints/engine.py", "Engine", "async_generate"),
    "Engine.shutdown": ("srt/entrypoints/engine.py", "Engine", "shutdown"),
    "TokenizerManager.generate_request": (
        "srt/managers/tokenizer_manager.py",
        "TokenizerManager",
        "generate_request",
    ),
    "TokenizerManager.auto_create_handle_loop": (
        "srt/managers/tokenizer_manager.py",
        "TokenizerManager",
        "auto_create_handle_loop",
    ),
    "TokenizerManager.release_memory_occupation": (
        "srt/managers/tokenizer_control_mixin.py",
        "TokenizerControlMixin",
        "release_memory_occupation",
    ),
    "TokenizerManager.resume_memory_occupation": (
        "srt/managers/tokenizer_control_mixin.py",
        "TokenizerControlMixin",
        "resume_memory_occupation",
    ),
    "ModelConfig.get_default_sampling_params": (
        "srt/configs/model_config.py",
        "ModelConfig",
        "get_default_sampling_params",
    ),
    **{
        f"FunctionCallParser.{name}": (
            "srt/function_call/function_call_parser.py",
            "FunctionCallParser",
            name,
        )
        for name in (
            "__init__",
            "parse_stream_chunk",
            "parse_stream_end",
            "get_structure_constraint",
        )
    },
    **{
        f"ReasoningParser.{name}": ("srt/parser/reasoning_parser.py", "ReasoningParser", name)
        for name in ("__init__", "parse_stream_chunk", "parse_stream_end")
    },
}
_FIELDS: Final = {
    "SamplingParams": ("srt/sampling/sampling_params.py", "SamplingParams"),
    "Function": ("srt/entrypoints/openai/protocol.py", "Function"),
    "EmbeddingReqInput": ("srt/managers/io_struct.py", "EmbeddingReqInput"),
    "ReleaseMemoryOccupationReqInput": (
        "srt/managers/io_struct.py",
        "ReleaseMemoryOccupationReqInput",
    ),
    "ResumeMemoryOccupationReqInput": (
        "srt/managers/io_struct.py",
        "ResumeMemoryOccupationReqInput",
    ),
}
#: Files that have nothing but a list of names.
_NAMES: Final = {
    "TOOL_CALL_PARSER_NAMES": "srt/function_call/parser_names.py",
    "REASONING_PARSER_NAMES": "srt/parser/reasoning_parser_names.py",
}


def signatures(site: Path) -> dict[str, list[str]]:
    """Return the names of parameters and fields, by what has them."""
    root = site / "sglang"
    found = {name: _parameters(_method(root, *place)) for name, place in _CALLS.items()}
    found |= {name: sorted(_fields(_class(root, *place))) for name, place in _FIELDS.items()}
    groups = sorted((root / "srt/arg_groups/fields").glob("*.py"))
    kinds = [kind for file in groups for kind in _classes(file)]
    found |= {name: sorted(_strings(root / file)) for name, file in _NAMES.items()}
    return found | {"ServerArgs": sorted(name for kind in kinds for name in _fields(kind))}


def _strings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.List):
            yield from (each.value for each in node.elts if isinstance(each, ast.Constant))


def _classes(file: Path) -> Iterator[ast.ClassDef]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return (node for node in body if isinstance(node, ast.ClassDef))


def _class(root: Path, file: str, name: str) -> ast.ClassDef:
    return next(kind for kind in _classes(root / file) if kind.name == name)


def _method(root: Path, file: str, kind: str, name: str) -> Any:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    body = _class(root, file, kind).body
    return next(each for each in body if isinstance(each, functions) and each.name == name)


def _parameters(function: Any) -> list[str]:
    arguments = function.args
    return [each.arg for each in (*arguments.args[1:], *arguments.kwonlyargs)]


def _fields(kind: ast.ClassDef) -> Iterator[str]:
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


if __name__ == "__main__":
    print(json.dumps(signatures(Path(sys.argv[1])), indent=1))  # noqa: T201
