"""The allowance of a key: its limits, and the headers and errors that tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from contract.bus.turns import prompt_tokens
from contract.config import LimitsConfig
from contract.keys import KeyRecord
from contract.limits import Consumption, Counted, KeyLimits, LimitReached
from contract.messages import Job
from gateway.http.errors import ApiError

_MINUTE_S: Final = 60
_DAY_S: Final = 86_400


#: In the order of `Counted`. A month is of no certain length.
_WINDOWS: Final[dict[str, int | None]] = {
    "requests_per_minute": _MINUTE_S,
    "tokens_per_minute": _MINUTE_S,
    "tokens_per_day": _DAY_S,
    "tokens_per_month": None,
}


class Quota(NamedTuple):
    """A limit over a window of time."""

    name: str
    limit: int
    window_s: int | None
    #: When all of it is free again, or enough for a request that had no room.
    reset_s: int | None = None

    def policy(self) -> str:
        """Return the limit as an item of the header `RateLimit-Policy`."""
        window = "" if self.window_s is None else f";w={self.window_s}"
        return f'"{self.name}";q={self.limit}{window}'

    def state_form(self) -> str:
        """Return the form of an item of `RateLimit`, to be filled in with what is left."""
        reset = "" if self.reset_s is None else f";t={self.reset_s}"
        return f'"{self.name}";r=%d{reset}'


#: How much is left of each quota.
Remaining: TypeAlias = Mapping[Quota, int]
Header: TypeAlias = tuple[bytes, bytes]


def consumption_of(job: Job, key: KeyRecord | None, config: LimitsConfig, most: int) -> Consumption:
    """Return what a job takes of the limits of its key, with an answer of `most` tokens if it asks
    for no fewer."""
    limits = limits_of(key, config) if key is not None else ()
    if not limits:
        return Consumption()
    answer = 0 if job.pooling else (job.sampling.max_tokens or most) * job.sampling.n
    return Consumption(prompt_tokens(job) + answer, limits)


def limits_of(key: KeyRecord, config: LimitsConfig) -> tuple[tuple[str, KeyLimits], ...]:
    """Return the limits that a key counts for, by subject; those without a bound are left out."""
    shared = config.groups.get(key.group) if key.group else None
    group = (key.group, shared.limits) if shared else None
    return _bounds(key.id, key.limits, config.per_key.limits, group)


@lru_cache(maxsize=1024)
def _bounds(
    key_id: str, own: KeyLimits, default: KeyLimits, group: tuple[str, KeyLimits] | None
) -> tuple[tuple[str, KeyLimits], ...]:
    limits = [(f"key:{key_id}", own.over(default) if own else default)]
    if group is not None:
        limits.append((f"group:{group[0]}", group[1]))
    return tuple(each for each in limits if each[1])


def quotas(consumption: Consumption, counted: tuple[Counted, ...]) -> Remaining:
    """Return what is left of the quotas that a request was counted for, if it was; of several of a
    name, the one with the least left."""
    found: dict[str, tuple[Quota, int]] = {}
    for (_, limits), used in zip(consumption.limits, counted, strict=False):
        for place, quota in _quotas_of(limits):
            left = quota.limit - used[place]
            if quota.name not in found or left < found[quota.name][1]:
                found[quota.name] = (quota, left)
    return dict(found.values())


def quota_headers(found: Remaining) -> list[Header]:
    """Return `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-11 has them
    (structured fields, RFC 9651), and OpenAI's `x-ratelimit-*` of requests and tokens in a minute.
    A minute is a window that slides: `t`, and OpenAI's `reset`, say when all of it is free."""
    if not found:
        return []
    left = tuple([max(0, each) for each in found.values()])
    form = _form_of(tuple(found))
    remaining = [(name, b"%d" % left[place]) for place, name in form.remaining]
    return [*form.fixed, (b"ratelimit", form.state % left), *remaining]


class _Form(NamedTuple):
    """The headers of some quotas: those that are `fixed`, `RateLimit` to be filled in with what is
    left of all, and by its place the name of the header for what is left of one."""

    fixed: list[Header]
    state: bytes
    remaining: list[tuple[int, bytes]]


@lru_cache(maxsize=1024)
def _form_of(of: tuple[Quota, ...]) -> _Form:
    fixed = [(b"ratelimit-policy", ", ".join(each.policy() for each in of).encode())]
    remaining = []
    for place, each in enumerate(of):
        if each.window_s == _MINUTE_S and each.reset_s is not None:
            kind = each.name.partition("-")[0].encode()
            fixed.append((b"x-ratelimit-limit-%b" % kind, b"%d" % each.limit))
            fixed.append((b"x-ratelimit-reset-%b" % kind, b"%ds" % each.reset_s))
            remaining.append((place, b"x-ratelimit-remaining-%b" % kind))
    return _Form(fixed, ", ".join(each.state_form() for each in of).encode(), remaining)


def reached_quota(reached: LimitReached) -> Remaining:
    """Return what is left of the quota that has no room, if it is one of a window of time."""
    if reached.name not in _WINDOWS:
        return {}
    reset_s = reached.wait_s if reached.wait_s >= 0 else None
    quota = Quota(_spelt(reached.name), reached.limit, _WINDOWS[reached.name], reset_s)
    return {quota: reached.limit - reached.used}


def limit_error(reached: LimitReached, prompts: int = 1) -> ApiError:
    """Return the error of a request of so many prompts that has no room."""
    kind, _, name = reached.subject.partition(":")
    whose = "this API key" if kind == "key" else f"the group `{name}` of this API key"
    bound = f"{whose} may have {reached.limit} {_WORDS[reached.name]}"
    if reached.wait_s < 0:
        what = "tokens" if "tokens" in reached.name or prompts == 1 else "prompts"
        message = f"{bound}, fewer than this request alone may take: ask for fewer {what}"
        return ApiError("limit_reached", message, retryable=False)
    used = "" if reached.name == "requests_per_minute" else f"; {reached.used} are taken"
    message = f"{bound}{used}; ask again in {reached.wait_s} s"
    return ApiError("limit_reached", message, headers={"retry-after": str(reached.wait_s)})


_WORDS: Final = {
    "requests_per_minute": "requests a minute",
    "tokens_per_minute": "tokens a minute",
    "open_requests": "requests at once",
    "waiting_requests": "requests that wait",
    "waiting_bytes": "bytes of requests that wait",
    "tokens_per_day": "tokens a day",
    "tokens_per_month": "tokens a month",
}


@lru_cache(maxsize=1024)
def _quotas_of(limits: KeyLimits) -> list[tuple[int, Quota]]:
    """Return the limits over a window of time, each with its place in `Counted`."""
    return [
        (place, Quota(_spelt(name), limit, window_s, window_s if window_s == _MINUTE_S else None))
        for place, (name, window_s) in enumerate(_WINDOWS.items())
        if (limit := getattr(limits, name)) is not None
    ]


def _spelt(name: str) -> str:
    return name.replace("_", "-")
