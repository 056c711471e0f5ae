"""SGLang's own parsers of calls and thoughts, without the rest of it: its wheel is pure Python as
far as they go, and of its many requirements they need few."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from contract.engines import declaration_of
from contract.paths import ROOT
from orchestrator.packages.installer import InstallFailed, Uv, find_uv
from tests.engines.contract.engines import vllm_python

#: Beside those that vLLM's environment has.
_NEEDED: Final = ("orjson", "partial-json-parser")
#: `sglang.utils` shows pictures in notebooks.
_NOTEBOOK: Final = "HTML = display = None\n"


def install_parsers(directory: Path) -> Path:
    """Unpack SGLang, as its lock pins it, with what its parsers need. Return where it is; skips the
    test if the package index cannot be asked."""
    declared = declaration_of("cuda-sglang")
    release = declared.releases[declared.default_version]
    lock = (ROOT / "deploy" / "engines" / release.lock).read_text()
    target = ["pip", "install", "--no-deps", "--only-binary=:all:", "--target", str(directory)]
    for_it = ["--python-version", release.pythons[0], "--python-platform", "x86_64-manylinux_2_34"]
    try:
        uv = Uv(find_uv() or "uv")
        needed = [_pinned(lock, name) for name in _NEEDED]
        uv.run([*target, "--python", vllm_python(), *uv.arguments, *needed], _ignore)
        # The wheel is that of the lock, whose Python is not the one of this environment.
        uv.run([*target, *for_it, *uv.arguments, _pinned(lock, "sglang")], _ignore)
    except InstallFailed as error:
        pytest.skip(f"SGLang's parsers cannot be installed: {error.output.splitlines()[-1]}")
    notebook = directory / "IPython"
    notebook.mkdir()
    (notebook / "__init__.py").touch()
    (notebook / "display.py").write_text(_NOTEBOOK)
    return directory


def _pinned(lock: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}==\S+", lock, re.MULTILINE)
    assert found, name
    return found[0]


def _ignore(_: str) -> None:
    """Progress is for people."""
