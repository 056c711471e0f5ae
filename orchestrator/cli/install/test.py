"""`ew test`."""

from __future__ import annotations

import subprocess
import sys

import typer

from contract.paths import IS_CLONE, ROOT
from orchestrator.cli.commands import plain_app
from orchestrator.errors import UserError

app = plain_app()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the test suite.

    It installs the test tools first, and sets up cpu-vllm, whose real vLLM many tests use.
    Arguments go to pytest: `./ew test tests/contract -k keys`. Skipped tests, and the reasons,
    stand at the end.
    """
    if not IS_CLONE:
        raise UserError("the tests are not installed with ew", "run `./ew test` in a clone of it")
    if subprocess.run([ROOT / "scripts" / "bootstrap", "dev"], check=False).returncode:
        raise UserError("the test tools could not be installed", "see above, and try again")
    if subprocess.run([ROOT / "ew", "setup", "--engine", "cpu-vllm"], check=False).returncode:
        typer.echo("without cpu-vllm, the tests that need it are skipped or fail", err=True)
    command = [sys.executable, "-m", "pytest", "-ra", *context.args]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    raise typer.Exit(0 if code == 0 else 1)
