"""The arguments that an engine's installed release takes, from where its declaration says.

Most are read from the source of the release, as it lies in the engine's environment: to import
vLLM takes ten seconds, to parse this one file of it 30 ms, so nothing has to be cached. Arguments
that cannot be read are not guessed: None says so. Attributes of a compiled library are asked of the
library itself, which takes 0.2 s.
"""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

from contract.engines import ArgumentSource, declaration_of
from contract.paths import ROOT
from orchestrator.environments import Environment

_PATIENCE_S: Final = 30
_ATTRIBUTES: Final = """
import importlib, json, sys
def names(value):
    return [name for name in dir(value) if not name.startswith("_")]
module, _, kind = sys.argv[1].rpartition(".")
whole = getattr(importlib.import_module(module), kind)()
print(json.dumps(names(whole) + [f"{part}.{name}" for part in names(whole)
                                 for name in names(getattr(whole, part))]))
"""


class Known(NamedTuple):
    """The names that a release takes, and what it calls itself. `is_sure`: it takes no others."""

    release: str
    names: frozenset[str]
    is_sure: bool = True


def known_arguments(engine: str, environment: Environment | None) -> Known | None:
    """Return what may be in `engine_args` of a model that this engine runs in this environment
    (None: ew's own). None if it cannot be known, as where the environment is not there."""
    declared = declaration_of(engine)
    if environment is None and declared.has_environment:
        return None
    release = f"{engine} {environment.version}" if environment else f"the {engine} engine"
    found: set[str] = set()
    for source in declared.arguments:
        names = set(_names(source, environment))
        if not names:
            return None
        found |= names
    return Known(release, frozenset({*found, *declared.own_arguments}), not declared.takes_others)


def _names(source: ArgumentSource, environment: Environment | None) -> Iterator[str]:
    if source.attributes_of and environment is not None:
        yield from _attributes(source.attributes_of, environment)
    for file in _files(source.file, environment):
        if source.fields_of:
            yield from _fields(file, source.fields_of)
        if source.taken_from:
            yield from _taken(file, source.taken_from)


def _files(pattern: str, environment: Environment | None) -> list[Path]:
    """Return those of the environment that fit, else those of ew itself."""
    if not pattern:
        return []
    found: list[Path] = []
    if environment is not None:
        found = sorted(environment.path.glob(f"lib/python3*/site-packages/{pattern}"))
    return found or sorted(ROOT.glob(pattern))


def _fields(file: Path, pattern: str) -> Iterator[str]:
    """Yield the fields of classes and of those in the same file that they are derived from, with
    their other names; none if there is no such class."""
    classes = _classes(file)
    for kind in classes:
        if fnmatchcase(kind, pattern):
            yield from _inherited(classes, kind)


def _inherited(classes: dict[str, ast.ClassDef], kind: str) -> Iterator[str]:
    if kind not in classes:
        return
    yield from _own_fields(classes[kind])
    yield from _aliases(classes[kind])
    for base in classes[kind].bases:
        yield from _inherited(classes, ast.unparse(base))


def _own_fields(kind: ast.ClassDef) -> Iterator[str]:
    for statement in kind.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                written = ast.unparse(statement)
                # `ClassVar` and pydantic's `PrivateAttr` cannot be given.
                if "ClassVar" not in written and "PrivateAttr" not in written:
                    yield name


def _aliases(kind: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(kind):
        if isinstance(node, ast.keyword) and node.arg in ("alias", "validation_alias"):
            yield from _texts(node.value)


def _taken(file: Path, name: str) -> Iterator[str]:
    """Yield the texts in `NAME.pop("x")` and `NAME.get("x")`."""
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (f"{name}.pop", f"{name}.get"):
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


def _attributes(kind: str, environment: Environment) -> list[str]:
    command = [str(environment.python), "-I", "-c", _ATTRIBUTES, kind]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=True)
        names: list[str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return names
