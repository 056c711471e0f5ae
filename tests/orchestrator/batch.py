"""Runs many command lines as processes of their own that share one start of Python.

`python -m tests.orchestrator.batch < ORDERS`: orders and outcomes are lists of JSON. Each command
line is forked off once everything is imported, with its own variables, and ends as `./ew` ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from contract.paths import ROOT

#: Modules that are not imported again for each.
_SHARED = (
    "orchestrator.cli.configure.config",
    "orchestrator.config.host_names",
    "orchestrator.config.selection",
)


class Order(NamedTuple):
    """One command line."""

    arguments: list[str]
    variables: dict[str, str]


class Outcome(NamedTuple):
    """How it ended, and what it wrote."""

    code: int
    out: str
    err: str


def run(orders: Sequence[Order], environment: Mapping[str, str]) -> list[Outcome]:
    """Run them one after the other."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.orchestrator.batch"],
        input=json.dumps(orders),
        env={**environment, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    return [Outcome(*each) for each in json.loads(done.stdout)]


def _serve(orders: list[Any]) -> list[Outcome]:
    for module in _SHARED:
        import_module(module)
    main = import_module("orchestrator.cli").main

    def fork(order: Order) -> Outcome:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if pid == 0:
                os.environ.update(order.variables)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                code = 99
                try:
                    code = main(order.arguments)
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            texts = [_text(file) for file in (out, err)]
        return Outcome(os.waitstatus_to_exitcode(status), *texts)

    return [fork(Order(*order)) for order in orders]


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode())


if __name__ == "__main__":
    json.dump(_serve(json.load(sys.stdin)), sys.stdout)
