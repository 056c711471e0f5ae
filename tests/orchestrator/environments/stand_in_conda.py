"""A stand-in for conda, which cannot be had everywhere: the three commands that ew uses of it.

It makes a plain virtual environment in $CONDA_HOME/envs. While $CONDA_HOME/stop exists, `create`
stops half-way.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import venv
from pathlib import Path

HOME = Path(os.environ["CONDA_HOME"])


def main() -> None:
    arguments = sys.argv[1:]
    with (HOME / "calls").open("a") as calls:
        calls.write(" ".join(arguments) + "\n")
    match arguments:
        case ["env", "list", "--json"]:
            listed = sorted(map(str, (HOME / "envs").glob("*")))
            sys.stdout.write(json.dumps({"envs": listed}))
        case ["env", "remove", "--yes", "--name", name]:
            shutil.rmtree(HOME / "envs" / name)
        case ["create", "--yes", "--quiet", "--name", name, *channels, python]:
            assert python.startswith("python=")
            assert channels in ([], ["--channel", "conda-forge"])
            create(HOME / "envs" / name)
        case _:
            sys.exit(f"conda: unknown command: {arguments}")


def create(path: Path) -> None:
    if (HOME / "fail").exists():
        sys.exit("PackagesNotFoundError: no channel answers")
    path.mkdir(parents=True)
    (path / "half made").touch()
    while (HOME / "stop").exists():
        time.sleep(0.02)
    (path / "half made").unlink()
    venv.create(path, symlinks=True)


if __name__ == "__main__":
    main()
