"""Slow imports come only where they are needed: processes start often."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from contract.paths import ROOT

_LOAD = "import contract.config.loading as l; l.load_config(l.Path('deploy/config.json'))"
_MODULES = "import json, sys; print(json.dumps([*sys.modules]))"


@pytest.mark.parametrize(
    ("program", "variables", "heavy", "is_there"),
    [
        (_LOAD, {}, "pydantic_settings", False),
        (_LOAD, {"EW_GATEWAY__PORT": "9000"}, "pydantic_settings", True),
        ("import workers.__main__", {}, "pydantic_settings", False),
        ("import gateway.__main__, gateway.server.app", {}, "httpx", False),
        ("import gateway.__main__, gateway.server.app", {}, "pydantic.v1.main", False),
    ],
    ids=["configuration", "overridden configuration", "worker", "gateway", "old models"],
)
def test_a_heavy_library_is_imported_where_it_is_needed_and_nowhere_else(
    program: str, variables: dict[str, str], heavy: str, is_there: bool
) -> None:
    usual = {name: value for name, value in os.environ.items() if not name.startswith("EW_")}
    said = subprocess.run(
        [sys.executable, "-c", f"{program}; {_MODULES}"],
        cwd=ROOT,
        env={**usual, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (heavy in json.loads(said.stdout)) == is_there
