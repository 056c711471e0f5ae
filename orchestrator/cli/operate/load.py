"""`ew load`."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.messages import State
from contract.supervision.control import Load
from orchestrator.client.residency import change_residency, model_id
from orchestrator.client.stages import explain_failures


def load(
    model: Annotated[str, typer.Argument(help="A model that is loaded on demand.")],
) -> None:
    """Load a model now, instead of at its first request."""
    outcomes = change_residency(Load(model_id(model)))
    if explain_failures([each for each in outcomes if each.state is not State.READY]):
        raise typer.Exit(1)
