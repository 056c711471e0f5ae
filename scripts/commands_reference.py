"""Print docs/commands.md: what `./ew COMMAND --help` says, for every command.

.venv/bin/python scripts/commands_reference.py > docs/commands.md
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_HEAD = """# Commands

Made by `scripts/commands_reference.py` from what `--help` says. Exit codes: 0 done, 1 something
you can fix (the message says how), 2 a defect of ours.
"""


def reference() -> str:
    """Return the page."""
    from orchestrator.cli.commands import COMMANDS, load_command

    parts = [_HEAD]
    for name in COMMANDS:
        parts += _command(load_command(name), f"ew {name}", depth=2)
    return "\n".join(parts)


def _command(command: Any, path: str, depth: int) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True, terminal_width=80)
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"{'#' * depth} {path}\n\n```text\n{help_text.strip()}\n```\n"
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _command(inner, f"{path} {name}", depth + 1)


if __name__ == "__main__":
    # As wide as any terminal is, whatever this one is.
    os.environ["COLUMNS"] = "80"
    sys.stdout.write(reference())
