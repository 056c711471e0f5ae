"""Where the requests for a model go beside the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    # Who only shows the document needs none of it.
    from contract.config import ModelConfig


class ModelRoutes(msgspec.Struct, frozen=True):
    """`fallback`, `split` and `shadow` of a model, as the configuration has them."""

    fallback: tuple[str, ...] = ()
    after_waiting: int | None = None
    after_wait_s: float | None = None
    #: Percent by model.
    split: dict[str, float] = {}
    shadow: str = ""
    shadow_percent: float = 0.0

    @classmethod
    def of(cls, model: ModelConfig) -> ModelRoutes | None:
        """Return those of a model; None if it has none."""
        if not (model.fallback or model.split or model.shadow):
            return None
        return cls(
            fallback=model.fallback.to if model.fallback else (),
            after_waiting=model.fallback.after_waiting if model.fallback else None,
            after_wait_s=model.fallback.after_wait_s if model.fallback else None,
            split=dict(model.split.to) if model.split else {},
            shadow=model.shadow.to if model.shadow else "",
            shadow_percent=model.shadow.percent if model.shadow else 0.0,
        )

    def words(self) -> Iterator[str]:
        """Yield a line for each way."""
        if self.split:
            shares = (f"{percent:g}% to {model}" for model, percent in self.split.items())
            yield f"requests go elsewhere: {', '.join(shares)}"
        if self.fallback:
            when = ["while it is not served"]
            if self.after_waiting is not None:
                when.append(f"while {self.after_waiting} wait")
            if self.after_wait_s is not None:
                when.append(f"after a wait of {self.after_wait_s:g} s")
            yield f"falls back to {', '.join(self.fallback)} {', '.join(when)}"
        if self.shadow:
            yield f"{self.shadow_percent:g}% are copied to {self.shadow}"
