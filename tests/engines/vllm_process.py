"""vLLM's environment, where vLLM is imported once for many tests: that takes ten seconds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from contract.paths import ROOT
from tests.engines.contract.engines import vllm_python

#: Runs each script in a fork of its own, so that it changes nothing for the next.
_SERVER = """
import io, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import vllm.engine.arg_utils, workers.engines.vllm
for line in sys.stdin:
    script, given, output = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            sys.stdin, sys.stdout = io.StringIO(given), open(output, "w")
            exec(script, {"__name__": "script"})
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
"""


class VllmProcess:
    """A process that has imported vLLM. Its logs, and those of its scripts, go to `directory`."""

    def __init__(self, directory: Path) -> None:
        self._output, self._log = directory / "output", directory / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [vllm_python(), "-c", _SERVER],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, script: str, given: Any = None) -> str:
        """Run a script that finds `given` as JSON in its standard input. Return what it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = [script, json.dumps(given), str(self._output)]
        print(json.dumps(request), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "0\n", self._log.read_text()
        return self._output.read_text()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
