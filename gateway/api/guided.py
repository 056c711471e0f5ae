"""The one constraint on an answer, whichever field of a body gives it."""

from __future__ import annotations

from typing import Any

import orjson

from contract.asked import Guided, GuidedKind
from gateway.http.errors import ApiError


def guided_by(**guides: tuple[GuidedKind, Any]) -> Guided | None:
    """The one constraint that is given, if any; each is named as the API names its field, and
    `None` stands for one that is not given. Raises `ApiError` if there are several."""
    given = [(name, kind, value) for name, (kind, value) in guides.items() if value is not None]
    if len(given) > 1:
        both = f"`{given[0][0]}` and `{given[1][0]}` exclude each other"
        raise ApiError("invalid_request", both, field=given[1][0])
    for _, kind, value in given:
        return Guided(kind, value if isinstance(value, str) else orjson.dumps(value).decode())
    return None
