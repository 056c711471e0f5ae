"""A dry run of a setup: exactly what it would do, without doing it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from orchestrator.environments.installation import installations
from orchestrator.environments.preflight import describe
from orchestrator.environments.setup import (
    install_command,
    preflight_of,
    requirements_file,
    venv_command,
)
from orchestrator.environments.spec import EnvironmentSpec
from orchestrator.packages.installer import Uv
from orchestrator.packages.lock_file import read_lock


def dry_run_steps(spec: EnvironmentSpec, uv: Uv) -> Iterator[str]:
    """Yield the preflight's findings, then the commands, as lines of text."""
    release = spec.release
    yield f"{spec.engine.engine} {release.version} as `{spec.name}`, with {spec.manager}"
    if spec.made():
        yield "nothing to do: it is there, and current"
        return
    yield "\npreflight"
    yield from describe(list(preflight_of(spec, uv)))
    yield "\ncommands"
    if spec.conda:
        yield f"  {shlex.join(spec.conda.create_command(spec.name, release.pythons[0]))}"
    else:
        yield f"  uv {shlex.join(venv_command(spec, uv.find_python(release.pythons)))}"
    for number, installation in enumerate(installations(release, spec.wheelhouse), 1):
        command = install_command(spec, uv, installation, requirements_file(spec, number))
        variables = uv.with_index(installation.index).items()
        prefix = "".join(f"{name}={shlex.quote(value)} " for name, value in variables)
        yield f"  {prefix}uv {shlex.join(command)}    # {installation.title}"
    yield f"  import {spec.engine.library}, on {spec.engine.device}"
    if release.lock:
        count = len(read_lock(release.lock_path).entries)
        yield f"\n{count} packages, each with its hashes in deploy/engines/{release.lock}"
    else:
        yield f"\nnot locked: {release.why_no_lock}"
