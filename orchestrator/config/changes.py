"""Changes of the configuration file since things were started: key by key, and
what applies it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from contract.config import (
    GATEWAY_FIELDS,
    Config,
    FilesConfig,
    GatewayConfig,
    HubConfig,
    JobsConfig,
    KeysConfig,
    LimitsConfig,
    LogsConfig,
    ModelConfig,
    TracingConfig,
)
from contract.process.host_name import is_here
from orchestrator.config.effects import Effect, effect_of
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec

AT_ONCE: Final = ""
_ALL_ANEW: Final = "./ew stop, then ./ew start"
_RELOAD: Final = "./ew reload"
_OF_HOSTS: Final = "./ew start where it is to run, ./ew stop where it is not"
_PASSWORD: Final = re.compile(r"(://)[^/@\s]*@")
_SECRET: Final = re.compile(r"(?i)(key|token|secret|password)$")
_NAMES_A_VARIABLE: Final = re.compile(r"_(env|file)$")
_HIDDEN: Final = "***"
_MISSING: Final = "-"
#: Beside its own section. In the order of the file.
_TOLD_TO_THE_GATEWAY: Final[dict[str, type[BaseModel]]] = {
    "keys": KeysConfig,
    "limits": LimitsConfig,
    "jobs": JobsConfig,
    "files": FilesConfig,
    "hub": HubConfig,
    "logs": LogsConfig,
    "tracing": TracingConfig,
}


class Change(NamedTuple):
    """A key, its value as it was taken when what needs it was started, and the file's, both as
    text without secrets. `needs` is the command that applies it; empty if it is applied at once.
    `is_on_demand`: it is of a model that comes and goes."""

    key: str
    running: str
    file: str
    needs: str = AT_ONCE
    effect: Effect = Effect.ANEW
    is_on_demand: bool = False


def changes(units: Iterable[UnitSpec], redis_url: str | None, config: Config) -> list[Change]:
    """All changes, in the order of the file's sections."""
    wanted = list(units)
    gateway = next((each for each in wanted if isinstance(each, GatewaySpec)), None)
    before: dict[str, Any] = gateway.config if gateway else {}
    found = list(_of_models(wanted, before.get("models", {}), config))
    if gateway is not None:
        found += _of_section("gateway", GatewayConfig(**before.get("gateway", {})), config.gateway)
    found += _of_redis(wanted, redis_url, config)
    days = config.usage.keep_days
    found += _of_days(wanted, "usage_days", "usage.keep_days", days)
    days = config.dead_letters.keep_days
    found += _of_days(wanted, "letter_days", "dead_letters.keep_days", days)
    found += _of_days(wanted, "trace_days", "usage.trace_days", config.usage.trace_days)
    if gateway is not None:
        for name, section in _TOLD_TO_THE_GATEWAY.items():
            found += _of_section(name, section(**before.get(name, {})), getattr(config, name))
    return found


def _of_models(
    wanted: list[UnitSpec], before: Mapping[str, Any], config: Config
) -> Iterator[Change]:
    running = {each.model: each for each in wanted if isinstance(each, ReplicaSpec)}
    for model_id, worker in running.items():
        now = config.models.get(model_id)
        if now is None:
            key = f"models.{model_id}"
            yield Change(key, "runs", _MISSING, f"./ew stop {model_id}")
            continue
        spec = worker.spec["model"]
        # The gateway takes these from the file, and workers know nothing of them.
        taken = before.get(model_id) or now.model_dump(mode="json", exclude_defaults=True)
        names = {key: taken[key] for key in GATEWAY_FIELDS & taken.keys()}
        was = ModelConfig(**{**spec, **names})
        restart, both = f"./ew restart {model_id}", worker.loads_on_demand and now.load != "always"
        for change in _of_section(f"models.{model_id}", was, now, restart):
            yield change._replace(is_on_demand=both and change.effect is Effect.LOAD)
    for model_id in config.models.keys() - before.keys() - running.keys():
        if is_here(config.models[model_id].hosts):
            yield Change(f"models.{model_id}", _MISSING, "is new", f"./ew start {model_id}")


def _of_redis(wanted: list[UnitSpec], redis_url: str | None, config: Config) -> Iterator[Change]:
    if redis_url != config.redis.url:
        yield Change("redis.url", shown(redis_url), shown(config.redis.url), _ALL_ANEW)
    valkey = next((each for each in wanted if isinstance(each, ValkeySpec)), None)
    after = config.redis.max_memory_bytes
    if valkey is not None and valkey.max_memory_bytes != (after or 0):
        was = valkey.max_memory_bytes or None
        yield Change("redis.max_memory_bytes", shown(was), shown(after), _ALL_ANEW)


def _of_days(wanted: list[UnitSpec], field: str, key: str, now: int) -> Iterator[Change]:
    """Workers were told, each at its start, in this field of their `WorkerSpec`."""
    told = {each.spec.get(field) for each in wanted if isinstance(each, ReplicaSpec)}
    for days in sorted(days for days in told if days and days != now):
        needs = "./ew restart, of all models"
        yield Change(key, shown(days), shown(now), needs, Effect.LOAD)


def _of_section(
    name: str, before: BaseModel, after: BaseModel, needs: str = AT_ONCE
) -> Iterator[Change]:
    was, now = before.model_dump(mode="json"), after.model_dump(mode="json")
    for key in now:
        if was[key] != now[key]:
            path = f"{name}.{key}"
            effect = effect_of(name.partition(".")[0], key)
            needed = _needs(name, key, effect, needs)
            yield Change(path, shown(was[key], key), shown(now[key], key), needed, effect)


def _needs(section: str, key: str, effect: Effect, restart: str) -> str:
    if key == "hosts":
        return _OF_HOSTS
    match effect:
        case Effect.AT_ONCE:
            return AT_ONCE
        case Effect.RELOAD:
            return _RELOAD
        case Effect.ANEW:
            return _ALL_ANEW
        case Effect.LOAD if section == "hub":
            return "./ew restart MODEL, for each that is from a hub"
        case Effect.LOAD:
            return restart


def shown(value: Any, key: str = "") -> str:
    """A value as it stands in the file, without secrets."""
    return json.dumps(_masked(value, key), ensure_ascii=False)


def _masked(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each, name) for name, each in value.items()}
    if isinstance(value, list):
        before = ["", *map(str, value)]
        return [_masked(each, name) for name, each in zip(before, value, strict=False)]
    if not isinstance(value, str):
        return value
    if _SECRET.search(key) and not _NAMES_A_VARIABLE.search(key):
        return _HIDDEN
    option, equals, _ = value.partition("=")
    if equals and option.startswith("-") and _SECRET.search(option):
        return f"{option}={_HIDDEN}"
    return _PASSWORD.sub(rf"\1{_HIDDEN}@", value)
