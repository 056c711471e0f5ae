"""The `ew` command of an installed package, as `_ew/__init__.py`.

ew's packages have names that others may have too, and engine environments read them as files. So
they are installed as a folder of their own, laid out like a clone, which only ew's processes put
on their path. The project is the current directory, unless EW_HOME or `--project` names another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).with_name("root")


def main() -> int:
    """Run the command line. Returns the exit code."""
    os.environ["EW_HOME"] = os.environ.get("EW_HOME") or str(Path.cwd())
    sys.path.insert(0, str(_ROOT))
    from orchestrator.cli import main as run

    return run()
