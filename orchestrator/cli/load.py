"""`ew load`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.aliases import id_of
from orchestrator.control import Load
from orchestrator.residency import change_residency


def load(
    model: Annotated[str, typer.Argument(help="A model that is loaded on demand.")],
) -> None:
    """Load a model now, instead of at its first request."""
    if not change_residency(Load(id_of(model))):
        raise typer.Exit(1)
