"""The command of each kind of task: how it is called, and how long it may take."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contract.paths import project_dir
from contract.supervision.tasks import BenchTask, EstimateTask, PullTask, Task, TaskKind
from orchestrator.system.process import Command

#: So many of a kind run at once.
AT_ONCE: Final[Mapping[TaskKind, int]] = {"bench": 1, "pull": 2, "estimate": 2}
_ESTIMATE_WITHIN_S: Final = 120.0
#: A model on demand may have to be loaded for the first answer, and runs may be done twice.
_BENCH_BEYOND_RUNS_S: Final = 700.0


def kind_of(task: Task) -> TaskKind:
    match task:
        case BenchTask():
            return "bench"
        case PullTask():
            return "pull"
        case EstimateTask():
            return "estimate"


def command_of(task: Task, directory: Path, variables: Mapping[str, str]) -> Command:
    """Return the command line; it writes `result.json` into the task's directory. `variables` are
    the EW_* settings of what runs."""
    result = directory / "result.json"
    output = directory / "output"
    match task:
        case BenchTask():
            told = ["bench", "--streams", ",".join(map(str, task.streams))]
            told += ["--seconds", f"{task.seconds:g}", "--tokens", str(task.tokens)]
            told += ["--prompt-words", str(task.prompt_words), "--json", str(result)]
        case PullTask():
            told = ["models", "pull"]
        case EstimateTask():
            told, output = ["estimate", "--json"], result
    # A name that begins with a dash is no option after the two.
    argv = [sys.executable, "-P", "-m", "orchestrator", *told, "--", task.model]
    environment = {**os.environ, **variables}
    return Command(argv, environment, project_dir(), umask=0o077, output=output)


def longest_s(task: Task) -> float | None:
    """Return how long a task may take; None: as long as it needs, as a download does."""
    match task:
        case BenchTask():
            return 2 * task.seconds * len(task.streams) + _BENCH_BEYOND_RUNS_S
        case PullTask():
            return None
        case EstimateTask():
            return _ESTIMATE_WITHIN_S
