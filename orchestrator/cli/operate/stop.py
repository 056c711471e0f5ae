"""`ew stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.client.shutdown import shut_down
from orchestrator.config.aliases import known_id
from orchestrator.protocol.control import Stop
from orchestrator.terminal.speech import say


def stop(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Stop only these models.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for open answers to end.")
    ] = False,
) -> None:
    """Stop everything, or one model.

    A start that is still being prepared begins nothing. Open answers may end first;
    Ctrl-C then stops at once. Waiting jobs, keys and logs stay.
    """
    ids = [known_id(model) for model in models or []]
    if not shut_down(Stop(models=ids, now=now)):
        say("\n".join(f"{each} was not running" for each in ids) or "nothing runs")
