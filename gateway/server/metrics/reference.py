"""The tables of docs/metrics.md, from the metrics themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import Metric

from gateway.server.metrics.exposition import MetricSources, sections
from gateway.server.metrics.vllm_names import vllm_families

_NOTHING: Final = MetricSources([], {}, (), True)
#: Begins the part of docs/metrics.md that is made here.
MARK: Final = "<!-- From here on made by `python -m gateway.server.metrics.reference`. -->"


def reference() -> str:
    """Return that part of docs/metrics.md."""
    lines = [MARK]
    for section in sections(_NOTHING):
        lines += ["", f"## {section.title}", "", *_table(section.families)]
    lines += ["", "## By vLLM's names", "", *_table(vllm_families(_NOTHING, {}))]
    return "\n".join(lines) + "\n"


def _table(families: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | type | labels | |"
    yield "|---|---|---|---|"
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in vars(family)["_labelnames"]) or "-"
        yield f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
