"""conda, mamba and micromamba, as far as ew needs them: they make, find and remove environments."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.errors import UserError

PROGRAMS: Final = ("conda", "mamba", "micromamba")
_LAST_LINES: Final = 8


class Conda(NamedTuple):
    """One program of the family."""

    name: str
    program: str

    def create_command(self, env_name: str, python_version: str) -> list[str]:
        # micromamba has no channel of its own accord; the others have what the user set up.
        channel = ["--channel", "conda-forge"] if self.name == "micromamba" else []
        options = ["--yes", "--quiet", "--name", env_name, *channel]
        return [self.program, "create", *options, f"python={python_version}"]

    def create(self, env_name: str, python_version: str) -> Path:
        """Answers where it is. Raises `UserError`."""
        self._run(self.create_command(env_name, python_version))
        prefix = self.prefix(env_name)
        if prefix is None:
            raise UserError(
                f"{self.name} made `{env_name}`, but does not list it",
                f"look at `{self.name} env list`, or use `--manager uv`",
            )
        return prefix

    def prefix(self, env_name: str) -> Path | None:
        """Where the environment is; None if there is none of this name."""
        listed = json.loads(self._run([self.program, "env", "list", "--json"]))
        paths = map(Path, listed.get("envs", ()))
        return next((path for path in paths if path.name == env_name), None)

    def remove(self, env_name: str) -> None:
        self._run([self.program, "env", "remove", "--yes", "--name", env_name])

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:]
            causes = "".join(f"\n  | {line}" for line in said)
            raise UserError(
                f"`{' '.join([self.name, *command[1:]])}` failed:{causes}",
                "mend that, or do without conda: `--manager uv`",
            )
        return done.stdout


def find_conda(name: str | None = None) -> Conda | None:
    """The program of this name, or the first one that is installed."""
    for each in (name,) if name else PROGRAMS:
        program = shutil.which(each)
        if program:
            return Conda(each, program)
    return None
