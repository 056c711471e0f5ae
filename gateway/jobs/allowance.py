"""The allowance of a key: its limits, and the headers and errors that tell of them."""

from __future__ import annotations

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
        window = "" if self.window_s is None else f";w={self.window_s}"
        return f'"{self.name}";q={self.limit}{window}'

    def state(self) -> str:
        """Return it as an item of `RateLimit`."""
        reset = "" if self.reset_s is None else f";t={self.reset_s}"
        return f'"{self.name}";r={max(0, self.left)}{reset}'


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
    default = config.per_key.limits
    own = key.limits.over(default) if key.limits else default
    limits = [(f"key:{key.id}", own)]
    if key.group and (shared := config.groups.get(key.group)):
        limits.append((f"group:{key.group}", shared.limits))
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
    headers = {}
    if found:
        headers["ratelimit-policy"] = ", ".join(each.policy() for each in found)
        headers["ratelimit"] = ", ".join(each.state() for each in found)
    for each in found:
        if each.window_s == _MINUTE_S and each.reset_s is not None:
            kind = each.name.partition("-")[0]
            headers[f"x-ratelimit-limit-{kind}"] = str(each.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, each.left))
            headers[f"x-ratelimit-reset-{kind}"] = f"{each.reset_s}s"
    return [(name.encode(), value.encode()) for name, value in headers.items()]


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
    found = []
    for (name, window_s), had in zip(_WINDOWS.items(), used, strict=True):
        limit = getattr(limits, name)
        if limit is not None:
            reset_s = window_s if window_s == _MINUTE_S else None
            found.append(Quota(_spelt(name), limit, window_s, limit - had, reset_s))
    return found


def _spelt(name: str) -> str:
    return name.replace("_", "-")
