"""`ew pin`."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.supervision.control import Pin
from orchestrator.client.residency import change_residency, model_id
from orchestrator.terminal.speech import say


def pin(
    model: Annotated[str, typer.Argument(help="A model that is loaded on demand.")],
    off: Annotated[bool, typer.Option("--off", help="It may be unloaded again.")] = False,
) -> None:
    """Never unload a model to make room for another, nor because it is idle.

    Holds until ew stops; `"pinned": true` in the configuration holds for good.
    """
    if not change_residency(Pin(model_id(model), is_pinned=not off)):
        say(f"{model} may be unloaded again" if off else f"{model} is pinned")
