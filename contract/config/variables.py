"""The EW_* variables: those over the configuration file, and those that are something else."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from contract.config.gateway import GatewayConfig
from contract.config.logs import LogsConfig, TracingConfig
from contract.config.model import ModelConfig
from contract.config.records import DeadLettersConfig, UsageConfig
from contract.config.schema import (
    FilesConfig,
    HubConfig,
    JobsConfig,
    KeysConfig,
    LimitsConfig,
    RedisConfig,
)

SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "gateway": GatewayConfig,
    "redis": RedisConfig,
    "keys": KeysConfig,
    "limits": LimitsConfig,
    "hub": HubConfig,
    "jobs": JobsConfig,
    "files": FilesConfig,
    "usage": UsageConfig,
    "dead_letters": DeadLettersConfig,
    "logs": LogsConfig,
    "tracing": TracingConfig,
    "models": ModelConfig,
}
#: Variables that are no settings, and what each is for.
OTHERS: Final = {
    "EW_HOME": "the project: the directory of configuration, state and logs, instead of the clone; "
    "instead of the current directory where ew is an installed package",
    "EW_CONFIG": "the configuration file, instead of deploy/config.json",
    "EW_STATE_DIR": "where keys, queue data, environments, sockets and logs lie, instead of "
    ".ew/ and logs/ in the project",
    "EW_LOG_LEVEL": "debug, info (the default), warning or error, for every process",
    "EW_PYTHON": "the interpreter that the first `./ew` makes .venv with",
    "EW_HOST_NAME": "this host among several on one Redis, instead of the machine's name",
    "EW_API_KEY": "the key that `./ew chat`, `./ew bench`, `./ew compare`, `./ew batch` and `./ew "
    "jobs` use, and commands with `--host`",
    "EW_API_KEY_FILE": "a file with the key for `--host`, instead",
    "EW_HOST": "the URL of another host's gateway, as `./ew --host` names it",
    "EW_CA_FILE": "the authorities that the certificate of `--host` is checked by, instead of the "
    "system's, as `./ew --ca` names them",
    "EW_CLIENT_CERTIFICATE": "a PEM file with the client certificate and its key that they show to "
    "a gateway with `gateway.tls.client_ca_file`",
}
#: ew sets these for its own processes.
_INTERNAL: Final = (
    "EW_WORKER",
    "EW_RUN_",
    "EW_REDIS_URL",
    "EW_GATEWAY_INSTANCE",
    "EW_KEY_",
    "EW_COMPLETE",
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def unusable_variables() -> Iterator[str]:
    """One line for each EW_* variable that cannot be what it seems to be: it overrides a section
    that does not exist, is no JSON where it must be, or names no log level."""
    level = os.environ.get("EW_LOG_LEVEL", "info")
    if level.lower() not in LOG_LEVELS:
        yield f'EW_LOG_LEVEL is "{level}"; it must be one of {", ".join(LOG_LEVELS)}'
    for name, keys in _variables():
        if keys[0] in SECTIONS:
            yield from _not_json(name, keys)
        elif len(keys) > 1:
            near = difflib.get_close_matches(keys[0], SECTIONS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            yield f"{name}: unknown section `{keys[0]}`{hint}"


def overrides_some() -> bool:
    """Whether any variable overrides the configuration file."""
    return any(keys[0] in SECTIONS for _, keys in _variables())


def unknown_variables() -> Iterator[str]:
    """One line for each EW_* variable that means nothing to ew, with the nearest that does."""
    for name, keys in _variables():
        if keys[0] in SECTIONS or len(keys) > 1 or name in OTHERS or name.startswith(_INTERNAL):
            continue
        near = difflib.get_close_matches(name, [*OTHERS, *_overrides()], n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{name} means nothing to ew{hint}"


def _overrides() -> Iterator[str]:
    for section in ("gateway", "redis", "limits", "hub", "jobs", "files", "logs", "tracing"):
        for key in SECTIONS[section].model_fields:
            yield f"EW_{section.upper()}__{key.upper()}"


def _not_json(name: str, keys: list[str]) -> Iterator[str]:
    value = os.environ[name]
    if len(keys) == 1 or value.startswith(("{", "[")):
        try:
            json.loads(value)
        except json.JSONDecodeError as error:
            yield f"{name}: not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"


def _variables() -> Iterator[tuple[str, list[str]]]:
    """The EW_* variables, each with the path of the key that it overrides, in lower case."""
    for name in sorted(os.environ):
        if name.upper().startswith("EW_"):
            yield name, name[3:].lower().split("__")


def overriding_variable(
    data: dict[str, Any], keys: list[str], *, is_missing: bool = False
) -> str | None:
    """The variable that gives the key at this path, or something below it. A key that is
    missing is missed where its section was given."""
    if is_missing:
        return None if _has(data, keys[:-1]) else _variable(keys[:-1])
    return _variable(keys)


def _variable(keys: list[str]) -> str | None:
    wanted = [key.lower() for key in keys]
    for name, path in _variables():
        depth = min(len(path), len(wanted))
        if path[:depth] == wanted[:depth] and _has(os.environ[name], keys[depth:]):
            return name
    return None


def _has(data: Any, keys: list[str]) -> bool:
    """Whether data (or the JSON in a string) has a key at this path."""
    if keys and isinstance(data, str):
        data = json.loads(data) if data.startswith("{") else None
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True
