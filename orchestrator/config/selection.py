"""From the configuration and the command line to a `Start` request."""

from __future__ import annotations

import difflib
import enum
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from contract.config import (
    GATEWAY_FIELDS,
    Config,
    ConfigError,
    HubConfig,
    ModelConfig,
    ids_by_name,
    load_config,
)
from contract.engines import declaration_of
from contract.paths import config_path
from contract.process.host_name import VARIABLE, host_name, is_here
from orchestrator.config.host_checks import is_from_hub, require
from orchestrator.environments import default_env_name, find_environment, resolve_engine
from orchestrator.environments.engine_env import OWN_ENVIRONMENT, environment_of
from orchestrator.errors import UserError
from orchestrator.protocol.control import Start
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, ValkeySpec
from orchestrator.tensorrt import check as trt_check

#: EW_* variables that are no settings, and whose values are not shown.
_PRIVATE: Final = (
    "EW_API_KEY",
    "EW_API_KEY_FILE",
    "EW_HOST",
    "EW_CA_FILE",
    "EW_WORKER",
    "EW_RUN_ID",
    "EW_RUN_ROOT",
    "EW_REDIS_URL",
)


class Role(enum.Enum):
    """The parts that a host runs; the other part runs on others, which share its Redis."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKERS = "workers"


def role_named(name: str) -> Role:
    """Raises `UserError`."""
    try:
        return Role(name)
    except ValueError:
        known = ", ".join(f"`{role.value}`" for role in Role)
        raise UserError(f"there is no role `{name}`", f"known are {known}") from None


class StartOptions(NamedTuple):
    """The models that the command line asks for; empty means everything that is configured for this
    host."""

    models: tuple[str, ...] = ()
    engine: str | None = None
    env: str | None = None
    port: int | None = None
    role: Role = Role.ALL


def read_config() -> Config:
    """Return the configuration. Raises `UserError`."""
    try:
        return load_config(config_path())
    except ConfigError as error:
        raise UserError(str(error), "`./ew config reference` explains every key") from None


def start_request(config: Config, choice: StartOptions) -> Start:
    """Return what the supervisor needs to run the chosen models. Raises `UserError` if a model, its
    environment or its files are missing."""
    runs_gateway = choice.role is not Role.WORKERS and is_here(config.gateway.hosts)
    chosen = [] if choice.role is Role.GATEWAY else _models_here(config, choice)
    _require_parts(config, chosen, choice, runs_gateway=runs_gateway)
    require(config, chosen, config_path(), choice.env)
    workers = [worker for model_id in chosen for worker in _workers(model_id, config, choice.env)]
    return Start(
        workers=workers,
        gateway=gateway_spec(config, choice.port) if runs_gateway else None,
        redis_url=config.redis.url,
        variables=_settings(),
        valkey=ValkeySpec(config.redis.max_memory_bytes or 0),
    )


def gateway_spec(config: Config, port: int | None = None) -> GatewaySpec:
    """Return the gateway, at another port than is configured if that is given."""
    return GatewaySpec(
        python=sys.executable,
        host=config.gateway.host,
        port=config.gateway.port if port is None else port,
        drain_timeout_s=config.gateway.drain_timeout_s,
        config=config.model_dump(mode="json", exclude_defaults=True, exclude={"redis", "schema_"}),
    )


def chosen_models(config: Config, choice: StartOptions) -> list[str]:
    """Return the ids of the models that the choice means. Raises `UserError` if there are none."""
    if not config.models:
        raise UserError(
            f"{config_path()} has no models",
            "`./ew quickstart` adds one, or write it under `models`",
        )
    wanted = {_id_of(name, config.models) for name in choice.models}
    chosen = [
        model_id
        for model_id, model in config.models.items()
        if (model_id in wanted or not wanted) and _has_engine(model, choice.engine)
    ]
    if not chosen:
        engines = ", ".join(sorted({f"`{model.engine}`" for model in config.models.values()}))
        raise UserError(
            f"no such model has the engine `{choice.engine}`", f"the models have {engines}"
        )
    return chosen


def _models_here(config: Config, choice: StartOptions) -> list[str]:
    """Return the chosen models that are for this host. Raises `UserError` if one that was named
    is not."""
    chosen = chosen_models(config, choice)
    for model_id in chosen if choice.models else ():
        hosts = config.models[model_id].hosts
        if not is_here(hosts):
            raise UserError(
                f"model `{model_id}` is for other hosts: {', '.join(hosts)}; this one is "
                f"`{host_name()}`",
                f"`models.{model_id}.hosts` says so; {VARIABLE} gives this host another name",
            )
    return [model_id for model_id in chosen if is_here(config.models[model_id].hosts)]


def _require_parts(
    config: Config, chosen: list[str], choice: StartOptions, *, runs_gateway: bool
) -> None:
    """Raises `UserError` if there is nothing to run here, or nothing that joins it to the rest."""
    if choice.role is Role.GATEWAY and (choice.models or choice.engine or choice.env):
        raise UserError("a host with the role `gateway` runs no models", "leave them out")
    if choice.role is Role.GATEWAY and not runs_gateway:
        names = ", ".join(config.gateway.hosts)
        raise UserError(
            f"the gateway is for other hosts: {names}; this one is `{host_name()}`",
            f"`gateway.hosts` says so; {VARIABLE} gives this host another name",
        )
    if not chosen and not runs_gateway:
        raise UserError(
            f"nothing is configured for this host, `{host_name()}`",
            f"see `hosts` of the models and of `gateway`; {VARIABLE} gives it another name",
        )
    if config.redis.url is None and not (chosen and runs_gateway):
        part = "workers" if chosen else "a gateway"
        raise UserError(
            f"a host that runs only {part} needs `redis.url`: the Redis that all hosts share",
            f"set it in {config_path()}, on every host",
        )


def _workers(model_id: str, config: Config, env: str | None) -> list[ReplicaSpec]:
    model = config.models[model_id]
    engine, env_name = environment_of(model, env)
    python, version = _python(model_id, engine, env_name)
    if declaration_of(engine).model == "plan":
        trt_check.require_fitting_plan(model_id, model, version)
    spec = {
        "model_id": model_id,
        "engine": engine,
        "env": env_name,
        "usage_days": config.usage.keep_days,
        "letter_days": config.dead_letters.keep_days,
        "trace_days": config.usage.trace_days,
        "logs": config.logs.model_dump(include={"format", "journal"}, exclude_defaults=True),
        "model": model.model_dump(mode="json", exclude_defaults=True, exclude=set(GATEWAY_FIELDS)),
    }
    return [
        ReplicaSpec(
            model=model_id,
            replica=replica,
            engine=engine,
            env=env_name,
            python=python,
            start_timeout_s=model.start_timeout_s,
            spec=spec,
            version=version,
            hub=_hub(model, config.hub),
            answer_timeout_s=config.limits.total_timeout_s,
        )
        for replica in range(model.replicas)
    ]


def _python(model_id: str, engine: str, env_name: str) -> tuple[str, str]:
    """Return the interpreter of an environment, and the version of the engine in it."""
    if env_name == OWN_ENVIRONMENT:
        return sys.executable, ""
    environment = find_environment(env_name)
    if environment is None:
        option = "" if env_name == default_env_name(engine) else f" --env {env_name}"
        raise UserError(
            f"model `{model_id}` needs the environment `{env_name}`, which is not set up",
            f"`./ew setup --engine {engine}{option}`",
        )
    if environment.engine != engine:
        raise UserError(
            f"the environment `{env_name}` is for {environment.engine}; model `{model_id}` "
            f"runs in {engine}",
            "`./ew env list` shows which there are",
        )
    return str(environment.python), environment.version


def _id_of(name: str, models: Mapping[str, ModelConfig]) -> str:
    """Return the id of the model with this name. Raises `UserError` if there is none."""
    ids = ids_by_name(models)
    if name in ids:
        return ids[name]
    near = difflib.get_close_matches(name, ids, n=1)
    listing = ", ".join(f"`{model_id}`" for model_id in models)
    hint = f"did you mean `{near[0]}`?" if near else f"configured are {listing}"
    raise UserError(f"no model `{name}` in {config_path()}", hint)


def _has_engine(model: ModelConfig, engine: str | None) -> bool:
    return engine is None or engine in (model.engine, resolve_engine(model.engine))


def _hub(model: ModelConfig, hub: HubConfig) -> dict[str, Any] | None:
    """Return how the worker reaches the hub that its model is from, if it is."""
    return hub.model_dump(mode="json", exclude_defaults=True) if is_from_hub(model) else None


def _settings() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("EW_") and name not in _PRIVATE
    }
