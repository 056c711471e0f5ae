"""The allowance of a key: its limits, and the headers and errors that tell of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

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
    """A limit over a window of time, and what is left of it."""

    name: str
    limit: int
    window_s: int | None
    left: int
    #: When all of it is free again, or enough for a request that had no room.
    reset_s: int | None = None

    def policy(self) -> str:
        """Return it as an item of `RateLimit-Policy`."""
        return _policy(self.name, self.limit, self.window_s)

    def state(self) -> str:
        """Return it as an item of `RateLimit`."""
        reset = "" if self.reset_s is None else f";t={self.reset_s}"
        return f'"{self.name}";r={max(0, self.left)}{reset}'


@lru_cache(maxsize=1024)
def _policy(name: str, limit: int, window_s: int | None) -> str:
    window = "" if window_s is None else f";w={window_s}"
    return f'"{name}";q={limit}{window}'


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


def quotas(consumption: Consumption, counted: tuple[Counted, ...]) -> list[Quota]:
    """Return the quotas that a request was counted for, if it was; of several of a name, the one
    with the least left."""
    found: dict[str, Quota] = {}
    for (_, limits), used in zip(consumption.limits, counted, strict=False):
        for each in _quotas_of(limits, used):
            if each.name not in found or each.left < found[each.name].left:
                found[each.name] = each
    return list(found.values())


def quota_headers(found: list[Quota]) -> list[tuple[bytes, bytes]]:
    """Return `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-11 has them
    (structured fields, RFC 9651), and OpenAI's `x-ratelimit-*` of requests and tokens in a minute.
    A minute is a window that slides: `t`, and OpenAI's `reset`, say when all of it is free."""
    if not found:
        return []
    headers = [
        (b"ratelimit-policy", ", ".join([each.policy() for each in found]).encode()),
        (b"ratelimit", ", ".join([each.state() for each in found]).encode()),
    ]
    for each in found:
        if each.window_s == _MINUTE_S and each.reset_s is not None:
            values = (b"%d" % each.limit, b"%d" % max(0, each.left), b"%ds" % each.reset_s)
            headers += zip(_openai_names(each.name), values, strict=True)
    return headers


@lru_cache(maxsize=16)
def _openai_names(name: str) -> list[bytes]:
    """Return the names of OpenAI's headers for a quota: its limit, what is left, and when it is
    free."""
    kind = name.partition("-")[0]
    return [f"x-ratelimit-{each}-{kind}".encode() for each in ("limit", "remaining", "reset")]


def reached_quota(reached: LimitReached) -> list[Quota]:
    """Return the quota that has no room, if it is one of a window of time."""
    if reached.name not in _WINDOWS:
        return []
    left = reached.limit - reached.used
    reset_s = reached.wait_s if reached.wait_s >= 0 else None
    return [Quota(_spelt(reached.name), reached.limit, _WINDOWS[reached.name], left, reset_s)]


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


def _quotas_of(limits: KeyLimits, used: Counted) -> list[Quota]:
    return [
        Quota(name, limit, window_s, limit - used[place], reset_s)
        for place, name, limit, window_s, reset_s in _windows_of(limits)
    ]


@lru_cache(maxsize=1024)
def _windows_of(limits: KeyLimits) -> list[tuple[int, str, int, int | None, int | None]]:
    """Return the limits over a window of time: place in `Counted`, name, limit, seconds, and when
    all of it is free again."""
    return [
        (place, _spelt(name), limit, window_s, window_s if window_s == _MINUTE_S else None)
        for place, (name, window_s) in enumerate(_WINDOWS.items())
        if (limit := getattr(limits, name)) is not None
    ]


def _spelt(name: str) -> str:
    return name.replace("_", "-")
