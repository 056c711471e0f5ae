"""Fields for a request's turn among the others for the same model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, Field

from contract.asked import PriorityClass, Turn
from contract.bus.turns import CLASSES
from contract.keys import KeyRecord
from gateway.http.errors import ApiError

#: So many in either direction: each number in use is a lane of its own.
_FARTHEST: Final = 100


class TurnBody(BaseModel):
    """Fields of every body that asks for a generation."""

    #: How this body spells `priority_class`.
    class_field: ClassVar[str] = "priority_class"

    priority: Annotated[int, Field(ge=-_FARTHEST, le=_FARTHEST)] | None = Field(
        None, description="Of requests of one class, the lower goes first; 0 if not given."
    )
    priority_class: PriorityClass | None = Field(
        None, description="`batch` makes room for all others; the key's own class if not given."
    )
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        None, description="How long it may wait for its turn, instead of `limits.queue_timeout_s`."
    )

    def turn(self, key: KeyRecord) -> Turn:
        """Return the turn that a request of this key has. Raises `ApiError` if it asks to go before
        what the key may."""
        number, asked = self.priority or 0, self.priority_class or key.priority
        if CLASSES.index(asked) < CLASSES.index(key.priority):
            raise _refused(self.class_field, f"the class of this API key is `{key.priority}`")
        if number < key.lowest_priority:
            raise _refused("priority", f"{key.lowest_priority} is the lowest for this API key")
        return Turn(asked, number, key.weight, self.deadline_s)


def _refused(field: str, message: str) -> ApiError:
    return ApiError("priority_not_allowed", f"`{field}`: {message}", field=field)
