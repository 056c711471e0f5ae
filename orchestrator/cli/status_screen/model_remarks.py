"""Lines below the workers of a model."""

from __future__ import annotations

from collections.abc import Iterator

from contract.supervision.status import ModelStatus


def remarks_on(model: ModelStatus) -> Iterator[str]:
    """Yield how soon its clients have a first token, and where its requests go beside it."""
    if model.first_token_p50_s is not None and model.first_token_p99_s is not None:
        half, most = _seconds(model.first_token_p50_s), _seconds(model.first_token_p99_s)
        yield f"first token: half within {half}, 99% within {most}"
    if model.routes is not None:
        yield from model.routes.words()


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
