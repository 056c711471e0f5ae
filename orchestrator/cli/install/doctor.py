"""`ew doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.doctor.checks import check_up
from orchestrator.environments.preflight import describe
from orchestrator.terminal.speech import report, say


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what is wrong on this host.

    Exit code 1 if there is an error. Warnings do not count.
    """
    findings = {}
    for part, checks in check_up():
        findings[part] = checks
        if not as_json:
            report((part, *describe(checks)))
    broken = sum(check.is_fatal for checks in findings.values() for check in checks)
    if as_json:
        rows = {part: [check._asdict() for check in checks] for part, checks in findings.items()}
        report([json.dumps(rows, indent=2)])
    else:
        say(f"\n{broken} error{'s' * (broken > 1)}" if broken else "\nno errors")
    if broken:
        raise typer.Exit(1)
