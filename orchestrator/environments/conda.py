"""conda, mamba and micromamba, as far as ew needs them: they make, find and remove environments."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.errors import UserError
from orchestrator.terminal.progress import clock

PROGRAMS: Final = ("conda", "mamba", "micromamba")
_LAST_LINES: Final = 8
_TICK_S: Final = 0.5


class Conda(NamedTuple):
    """One program of the family."""

    name: str
    program: str

    def create_command(self, env_name: str, python_version: str) -> list[str]:
        # micromamba has no channel of its own accord; the others have what the user set up.
        channel = ["--channel", "conda-forge"] if self.name == "micromamba" else []
        options = ["--yes", "--quiet", "--name", env_name, *channel]
        return [self.program, "create", *options, f"python={python_version}"]

    def create(
        self,
        env_name: str,
        python_version: str,
        on_progress: Callable[[str], None],
        descriptors: Sequence[int] = (),
    ) -> Path:
        """Return where it is. Takes minutes; `descriptors` are for the program to inherit.
        Raises `UserError`."""
        command = self.create_command(env_name, python_version)
        self._run(command, on_progress, descriptors)
        prefix = self.prefix(env_name)
        if prefix is None:
            raise UserError(
                f"{self.name} made `{env_name}`, but does not list it",
                f"look at `{self.name} env list`, or use `--manager uv`",
            )
        return prefix

    def prefix(self, env_name: str) -> Path | None:
        """Return the path of the environment; None if there is none of this name."""
        listed = json.loads(self._run([self.program, "env", "list", "--json"]))
        paths = map(Path, listed.get("envs", ()))
        return next((path for path in paths if path.name == env_name), None)

    def remove(self, env_name: str) -> None:
        self._run([self.program, "env", "remove", "--yes", "--name", env_name])

    def _run(
        self,
        command: list[str],
        on_progress: Callable[[str], None] = lambda _: None,
        descriptors: Sequence[int] = (),
    ) -> str:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            text=True,
        ) as process:
            stdout, stderr = self._await(process, on_progress)
        if process.returncode != 0:
            said = (stderr or stdout).strip().splitlines()[-_LAST_LINES:]
            causes = "".join(f"\n  | {line}" for line in said)
            raise UserError(
                f"`{' '.join([self.name, *command[1:]])}` failed:{causes}",
                "mend that, or do without conda: `--manager uv`",
            )
        return stdout

    def _await(
        self, process: subprocess.Popen[str], on_progress: Callable[[str], None]
    ) -> tuple[str, str]:
        started = time.monotonic()
        while True:
            try:
                return process.communicate(timeout=_TICK_S)
            except subprocess.TimeoutExpired:
                on_progress(f"{self.name} is at work ({clock(time.monotonic() - started)})")


def find_conda(name: str | None = None) -> Conda | None:
    """Return the program of this name, or the first one that is installed."""
    for each in (name,) if name else PROGRAMS:
        program = shutil.which(each)
        if program:
            return Conda(each, program)
    return None
