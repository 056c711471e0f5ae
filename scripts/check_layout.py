"""Check the sizes of folders and files, the names of public classes (no two share one), and that
docstrings and comments name their subject.

    python scripts/check_layout.py

Prints one line per fault, with the next step, and exits with 1 if there is any. Run by
scripts/check.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("contract", "gateway", "workers", "orchestrator")
#: Where else docstrings and comments are looked at.
BESIDE: Final = ("scripts", "tests")
#: A docstring or comment of which the first word says that its subject is yet to come.
_NO_SUBJECT: Final = re.compile(r'\s*("""|#:? )What (?!if )')
#: Modules in one folder, without `__init__.py`.
MODULES: Final = 16
LINES: Final = 250
#: Files that are longer, with the lines that they may have, in steps of 25, and the reason. The
#: list only shrinks: lower a number when its file gets shorter, and split a file rather than add
#: it here.
LONGER: Final = {
    # One script or call each for a place in the queue's life: one file tells which keys they share.
    "contract/bus/queue.py": 325,
    # All types on the wire, so that a reader sees a job and its events together.
    "contract/messages.py": 325,
    # One state machine over the messages of one connection.
    "gateway/server/http_guard.py": 275,
    # To be cut: clients of a server have grown with the servers.
    "workers/engines/openai/engine.py": 300,
    "workers/engines/openai/upstream.py": 300,
    # To be cut: the requests that vLLM has under way.
    "workers/engines/vllm/engine.py": 300,
    # One writer of an answer's sequence numbers; the hot path of every token.
    "workers/outbox.py": 370,
    # One screen, section by section.
    "orchestrator/cli/status_screen/text.py": 275,
    # The fields of checkpoints' configurations, by their names in the wild: a list.
    "orchestrator/estimate/model_json.py": 350,
    # One writer of the account, under one mutex.
    "orchestrator/gpu/ledger.py": 300,
}


def main(root: Path = ROOT, longer: Mapping[str, int] = LONGER) -> int:
    """Check the tree at `root`. Return the exit code."""
    files = _modules(root, PACKAGES)
    faults = [
        *shared_names(root, files),
        *large_folders(root, files),
        *long_files(root, files, longer),
        *unnamed_subjects(root, files + _modules(root, BESIDE)),
    ]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def shared_names(root: Path, files: Sequence[Path]) -> Iterator[str]:
    """Yield a fault for each name that two public classes at the top of a module have."""
    places = defaultdict(list)
    for path in files:
        for node in ast.parse(path.read_text(), path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(root)}:{node.lineno}")
    for name, found in sorted(places.items()):
        if len(found) > 1:
            yield f"{', '.join(found)}: classes share the name `{name}`; rename all but one"


def large_folders(root: Path, files: Sequence[Path]) -> Iterator[str]:
    """Yield a fault for each folder with more than `MODULES` modules."""
    folders = defaultdict(int)
    for path in files:
        folders[path.parent] += path.name != "__init__.py"
    for folder, modules in sorted(folders.items()):
        if modules > MODULES:
            name = folder.relative_to(root)
            yield f"{name}/: {modules} modules, {MODULES} at most; put one subject in a subfolder"


def long_files(root: Path, files: Sequence[Path], longer: Mapping[str, int]) -> Iterator[str]:
    """Yield a fault for each file over its limit, and for each entry of `longer` that is over."""
    lines = {str(path.relative_to(root)): path.read_text().count("\n") for path in files}
    for name, count in lines.items():
        limit = longer.get(name, LINES)
        if count > limit:
            yield f"{name}: {count} lines, {limit} at most; move one noun to a file of its own"
    for name in longer:
        if lines.get(name, 0) <= LINES:
            yield f"{name}: needs no entry in LONGER (scripts/check_layout.py) any more; delete it"


def unnamed_subjects(root: Path, files: Sequence[Path]) -> Iterator[str]:
    """Yield a fault for each docstring or comment that begins with "What" and no subject."""
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if _NO_SUBJECT.match(line):
                yield (
                    f"{path.relative_to(root)}:{number}: begins with `What`; name the subject "
                    "(`The limits of a key`) or the act (`Return the limits of a key`)"
                )


def _modules(root: Path, folders: Sequence[str]) -> list[Path]:
    return sorted(path for name in folders for path in (root / name).rglob("*.py"))


if __name__ == "__main__":
    sys.exit(main())
