"""`ew unload`."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.supervision.control import Unload
from orchestrator.client.residency import change_residency, model_id
from orchestrator.terminal.speech import say


def unload(
    model: Annotated[str, typer.Argument(help="A model that is loaded on demand.")],
) -> None:
    """Unload a model, until it is asked for again.

    Its open answers may end first; jobs that wait for it load it again.
    """
    outcomes = change_residency(Unload(model_id(model)))
    if not all(each.note for each in outcomes):
        say(f"{model} has given its memory back until it is asked for")
