"""The bounds of sampling settings, in a request and in the configuration."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

MOST_STOPS: Final = 16
_LONGEST_STOP: Final = 64

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=-1, le=1_000_000)]
MinP = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
RepetitionPenalty = Annotated[float, Field(gt=0, le=10)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_STOP)]
