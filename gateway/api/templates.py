"""Variables of the chat template beside the messages, for all APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from contract.asked import Template


def template_of(
    given: Mapping[str, Any] | None,
    effort: str | None,
    *,
    opens: bool = True,
    continues: bool = False,
    system_first: bool = False,
) -> Template | None:
    """Return what differs from how a template is used otherwise, None if nothing does. `given` are
    arguments of the client's own, which go before what the `effort` of reasoning says."""
    arguments = dict(given or {})
    if effort is not None:
        arguments.setdefault("reasoning_effort", effort)
        # Templates that think only when told to know the effort by this.
        arguments.setdefault("enable_thinking", effort != "none")
    written = orjson.dumps(arguments).decode() if arguments else ""
    template = Template(written, opens, continues, system_first)
    return None if template == Template() else template
