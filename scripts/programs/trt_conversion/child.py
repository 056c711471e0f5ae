"""A step that runs in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Child:
    """This process, as `Stages.run` started it: it is given settings and answers a report.
    Libraries print what they like; from now on that goes to the log."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = json.loads(sys.argv[1])
        self._report_to = os.dup(1)
        os.dup2(2, 1)

    def stage(self, text: str) -> None:
        """The step that is being done now."""
        print(f"stage: {text}", flush=True)

    def report(self, facts: dict[str, Any]) -> None:
        os.write(self._report_to, json.dumps(facts).encode())
