"""Bodies of the administration API about keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from contract.asked import PriorityClass
from contract.keys import LONGEST_GLOB, KeyRecord
from contract.limits import MOST, KeyLimits
from gateway.api.fields import StrictBody

_NO_LIMIT = "none"
#: A number; `none` where a default of the configuration shall not hold; null leaves it to that.
LimitValue = Annotated[int, Field(ge=1, le=MOST)] | Literal["none"] | None
KeyName = Annotated[str, StringConstraints(max_length=64)]
KeyNote = Annotated[str, StringConstraints(max_length=200)]
ModelGlob = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_GLOB)]


class KeyBody(BaseModel):
    """A key, without its secret. `state` is `live`, `ending` (revoked, and live for a while),
    `expired` or `revoked`. `last_used_unix_s`: when the last of its requests to a model ended, null
    if none did in the last 400 days."""

    id: str
    name: str
    owner: str
    note: str
    state: str
    models: list[str]
    created_unix_s: float
    last_used_unix_s: float | None
    expires_unix_s: float | None
    revoked_unix_s: float | None
    admin: bool
    metrics: bool
    anonymous: bool
    anonymous_from: Literal["", "local", "all"] = Field(
        description="Whose requests without a key have it: of this host alone, or from anywhere."
    )
    priority: PriorityClass
    lowest_priority: int
    weight: float
    group: str
    host: str = Field(description="Another host whose key it is, and which alone changes it.")
    limits: dict[str, LimitValue] = Field(description="Those that the key itself has.")


class KeysBody(BaseModel):
    keys: list[KeyBody]


class KeyAddition(StrictBody):
    """A key to be made."""

    name: KeyName
    models: list[ModelGlob] = Field(["*"], max_length=64)
    expires_in_s: Annotated[float | None, Field(gt=0)] = None
    admin: bool = False
    metrics: bool = False
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    priority: PriorityClass = "normal"
    lowest_priority: Annotated[int, Field(ge=-100, le=0)] = 0
    group: KeyName = ""
    owner: KeyName = ""
    note: KeyNote = ""


class LimitsChange(StrictBody):
    """Limits of a key. Those that are not named stay as they are; null leaves one to the
    configuration, and `none` lifts it whatever the configuration says."""

    requests_per_minute: LimitValue = None
    tokens_per_minute: LimitValue = None
    open_requests: LimitValue = None
    waiting_requests: LimitValue = None
    waiting_bytes: LimitValue = None
    tokens_per_day: LimitValue = None
    tokens_per_month: LimitValue = None

    def named(self) -> dict[str, int | None]:
        """Return those that are given, as a key's record has them."""
        given = self.model_dump(exclude_unset=True)
        return {name: MOST if n == _NO_LIMIT else n for name, n in given.items()}


class KeyChange(StrictBody):
    """Changes of a key. What is not named stays as it is."""

    name: KeyName | None = None
    owner: KeyName | None = None
    note: KeyNote | None = None
    group: KeyName | None = None
    limits: LimitsChange | None = None

    def words(self) -> dict[str, str]:
        """Return what is to be said of the key."""
        told = {"name": self.name, "owner": self.owner, "note": self.note}
        return {name: words for name, words in told.items() if words is not None}


class KeyRotation(StrictBody):
    """The secret of a key is to be another one."""

    overlap_s: Annotated[float, Field(ge=0, le=366 * 86_400)] = Field(
        86_400, description="How long the old key still works."
    )


class NewKeyBody(BaseModel):
    """A key just made. `key` is shown now and never again."""

    id: str
    key: str


def key_body(
    record: KeyRecord, now_unix_s: float, last_used_unix_s: float | None, host: str = ""
) -> KeyBody:
    """Return a key as it is listed."""
    return KeyBody(
        id=record.id,
        name=record.name,
        owner=record.owner,
        note=record.note,
        state=record.state(now_unix_s),
        models=list(record.models),
        created_unix_s=record.created_unix_s,
        last_used_unix_s=last_used_unix_s,
        expires_unix_s=record.expires_unix_s,
        revoked_unix_s=record.revoked_unix_s,
        admin=record.admin,
        metrics=record.metrics,
        anonymous=bool(record.anonymous),
        anonymous_from=record.anonymous,
        priority=record.priority,
        lowest_priority=record.lowest_priority,
        weight=record.weight,
        group=record.group,
        host=host,
        limits=_limits_of(record.limits),
    )


def _limits_of(limits: KeyLimits) -> dict[str, Any]:
    given = {name: getattr(limits, name) for name in limits.__struct_fields__}
    return {name: _NO_LIMIT if n == MOST else n for name, n in given.items() if n is not None}
