"""Contradictions between keys that are right each: true on every host, whatever is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from contract.bus.connection.url import complaint_about
from contract.config.gateway import GatewayConfig
from contract.config.model import ModelConfig
from contract.config.names import ids_by_name, targets_of
from contract.config.schema import Config, RedisConfig
from contract.config.wording import Mistake, shown
from contract.engines import declaration_of, declared_engines, members_of

_OF_SERVERS: Final = ("base_url", "api_key_env", "upstream_model", "command")


def contradictions(config: Config) -> Iterator[Mistake]:
    """Yield each key that cannot be meant as it stands, and what to do."""
    yield from _gateway(config.gateway)
    yield from _redis(config.redis)
    yield from _keys(config)
    for model_id, model in config.models.items():
        for key, message in _model(model):
            yield Mistake(["models", model_id, key], f"`models.{model_id}.{key}` {message}")
        for key, message in _routes(config, model_id, model):
            yield Mistake(["models", model_id, key], f"`models.{model_id}.{key}` {message}")


def _routes(config: Config, model_id: str, model: ModelConfig) -> Iterator[tuple[str, str]]:
    for key, targets in targets_of(model).items():
        for target in targets:
            if complaint := _bad_target(config.models, model_id, key, target):
                yield key, f"names `{target}`, {complaint}"
    if model.split is not None and (whole := sum(model.split.to.values())) > 100:
        yield "split", f"gives away {whole:g} percent; 100 are all"
    if (loop := _loop(config.models, model_id)) and min(loop) == model_id:
        yield "fallback", f"leads back to the model: {' -> '.join(loop)}"


def _bad_target(models: Mapping[str, ModelConfig], model_id: str, key: str, target: str) -> str:
    """Return what is wrong with a model that another one's entry names. Nothing is handed on: who
    has a share of the requests for a model has no shares to give, and copies are not copied."""
    if target == model_id:
        return "the model itself; name another one"
    if target not in models:
        owner = ids_by_name(models).get(target)
        return f"which is a name of `{owner}`; write `{owner}`" if owner else "which is no model"
    if key != "fallback" and getattr(models[target], key) is not None:
        return f"which has a `{key}` itself"
    return ""


def _loop(models: Mapping[str, ModelConfig], start: str) -> list[str]:
    """Return the way over `fallback` from a model back to itself; empty if there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        fallback = models[way[-1]].fallback if way[-1] in models else None
        for target in fallback.to if fallback else ():
            if target == start and len(way) > 1:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def _gateway(gateway: GatewayConfig) -> Iterator[Mistake]:
    host = gateway.host
    name = host.partition("://")[2] or host
    bare = name.strip("/").strip("[]")
    if not host or host != bare or re.search(r"[\s/]", host) or re.search(r"^[^:]*:\d+$", host):
        yield Mistake(
            ["gateway", "host"],
            f"`gateway.host` is {shown(host)}; it must be a name or an address alone, such as "
            "127.0.0.1 (the port is `gateway.port`)",
        )


def _redis(redis: RedisConfig) -> Iterator[Mistake]:
    complaint = complaint_about(redis.url) if redis.url is not None else ""
    if complaint:
        yield Mistake(["redis", "url"], f"`redis.url` {complaint}")


def _keys(config: Config) -> Iterator[Mistake]:
    keys = config.keys
    if keys.source is not None and config.redis.url is None:
        yield Mistake(
            ["keys", "source"],
            "`keys.source` is for hosts that share one Redis; name it in `redis.url`",
        )
    if keys.source is not None and keys.secret_file is None:
        yield Mistake(
            ["keys", "source"],
            "`keys.source` needs `keys.secret_file`, a file with a secret that all hosts with "
            "gateways have (`openssl rand -hex 32` makes one)",
        )


def _model(model: ModelConfig) -> Iterator[tuple[str, str]]:
    yield from _lengths(model)
    if model.idle_unload_s is not None and model.load != "on-demand":
        yield "idle_unload_s", 'is for models that come and go; add `"load": "on-demand"`'
    if model.sleep and model.load != "on-demand":
        yield "sleep", 'is for models that come and go; add `"load": "on-demand"`'
    if model.sleep and not _may_sleep(model.engine):
        yield "sleep", f"is for engines that can sleep, and `{model.engine}` has no sleep mode"
    if model.gpus is not None and not model.gpus:
        yield "gpus", "is empty; name the GPUs, or leave the key out for any that fit"
    if declaration_of(model.engine).is_client:
        yield from _server(model)
    else:
        clients = [f"`{name}`" for name, each in declared_engines().items() if each.is_client]
        for key in _OF_SERVERS:
            if getattr(model, key) is not None:
                only = f"is for the {' or '.join(clients)} engine only"
                yield key, f'{only}, and this model has `"{model.engine}"`'
    yield from _adapters(model)


def _may_sleep(engine: str) -> bool:
    """Return whether an engine can sleep, or another of its family: what cannot sleep on a CPU has
    no GPU memory to give back, and the same configuration serves there, too."""
    family = declaration_of(engine).alias or engine
    return any(member.can_sleep for member in members_of(family))


def _adapters(model: ModelConfig) -> Iterator[tuple[str, str]]:
    source = declaration_of(model.engine).adapters
    if source == "server" and model.adapter_path is not None:
        yield "adapter_path", "is for engines that load it; name the server's own in `adapters`"
    if source == "none":
        for key in ("adapter_path", "adapters"):
            if getattr(model, key):
                yield key, f"is for engines that load adapters, and `{model.engine}` loads none"


def _lengths(model: ModelConfig) -> Iterator[tuple[str, str]]:
    whole = model.max_model_len
    if whole is None:
        return
    parts = [model.max_input_len or 1, model.max_output_len or 1]
    if sum(parts) > whole:
        yield (
            "max_model_len",
            f"is {whole}, less than `max_input_len` and `max_output_len` together ({sum(parts)})",
        )


def _server(model: ModelConfig) -> Iterator[tuple[str, str]]:
    if not model.base_url and model.command is None:
        needs = "needs `base_url` (a server that runs) or `command` (one to start)"
        yield "engine", f"`{model.engine}` {needs}"
    if model.command is not None and not (model.command and model.command[0].strip()):
        yield "command", 'is empty; write a program and its arguments, as in ["vllm", "serve"]'
    if model.base_url and model.command and "{port}" not in model.base_url:
        yield "base_url", "and `command` exclude each other; keep one (or {port} in the URL)"
    if model.base_url:
        yield from _address(model.base_url)


def _address(url: str) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url.replace("{port}", "1"))
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        yield "base_url", f"is {shown(url)}; it must be an address like http://127.0.0.1:8000/v1"
