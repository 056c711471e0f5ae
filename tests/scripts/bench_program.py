"""`scripts/bench`, and its modules, which are no package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

from contract.paths import ROOT

PROGRAM: Final = ROOT / "scripts" / "programs" / "bench"


def said(code: str, *arguments: str) -> Any:
    """Run code with the modules of the benchmarks; return what it prints."""
    command = [sys.executable, "-c", code, str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def bench(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts/bench", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
