"""Findings: things that a configuration names and this host lacks, or has in a wrong state.

A finding is fatal if a start on this host would fail for it, now and the next time. A fault
that may pass by itself (a server that is not up yet) is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contract.config.loading import Source
from orchestrator.errors import UserError


class Finding(NamedTuple):
    """A fault of the thing that the key at a path names; `fix` is the next step."""

    keys: list[str]
    message: str
    fix: str
    is_fatal: bool = True


def refusal(findings: list[Finding], file: Path) -> UserError:
    """Return the error that names each of the findings (at least one), and where it stands."""
    places = places_of(findings, file)
    if len(findings) == 1:
        return UserError(f"{places[0]}: {findings[0].message}", findings[0].fix)
    return UserError(
        "\n".join(lines_of(findings, file)),
        "`./ew config check` looks again, and starts nothing",
    )


def lines_of(findings: Iterable[Finding], file: Path) -> list[str]:
    """One line for each: where it stands, what is wrong, and the next step."""
    findings = list(findings)
    return [
        f"{place}: {finding.message}; {finding.fix}"
        for place, finding in zip(places_of(findings, file), findings, strict=True)
    ]


def places_of(findings: Iterable[Finding], file: Path) -> list[str]:
    """Return the file and line of each, or the variable that gives the key."""
    source = Source(file)
    return [source.place(finding.keys) for finding in findings]
