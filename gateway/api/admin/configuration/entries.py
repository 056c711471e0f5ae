"""The models' entries in the configuration file: read here, written by this host's supervisor."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request

from contract.config import IN_FILE_ONLY, ConfigError
from contract.config.loading import Source
from contract.config.wording import schema
from contract.paths import COMMAND, config_path
from contract.supervision.control import SetModel
from gateway.admin.supervisor import set_model
from gateway.api.admin.configuration.bodies import (
    ConfigSchemaBody,
    EntriesBody,
    EntryBody,
    ModelSetBody,
    ModelSettings,
)
from gateway.api.admin.guard import note_change
from gateway.api.inference import read
from gateway.api.openapi import ADMIN_CHANGE_ERRORS, json_request
from gateway.http.errors import ApiError, invalid

router = APIRouter(responses=ADMIN_CHANGE_ERRORS)
#: Of an entry that may run the checkpoint's own code, the key that says which.
_CHECKPOINT: Final = "model_path"
_RUNS_CODE: Final = "trust_remote_code"
Check = Annotated[bool, Query(description="See what would come of it, and write nothing.")]


@router.get("/config/schema", summary="The keys of a model's entry in the configuration file")
def get_schema() -> ConfigSchemaBody:
    whole = schema()
    entry = {**whole["$defs"]["ModelConfig"], "$defs": whole["$defs"]}
    return ConfigSchemaBody(model_schema=entry, in_file_only=sorted(IN_FILE_ONLY))


@router.get("/config/models", summary="The models' entries in the configuration file")
def get_entries() -> EntriesBody:
    source = _source()
    return EntriesBody(
        file=str(source.path),
        revision=source.revision,
        models={model_id: _entry(found) for model_id, found in _entries(source).items()},
    )


@router.patch(
    "/config/models/{model:path}",
    summary="Change a model's entry in the configuration file, or add one",
    openapi_extra=json_request(ModelSettings),
)
async def patch_entry(request: Request, model: str, check: Check = False) -> ModelSetBody:
    asked = await read(request, ModelSettings)
    source = await asyncio.to_thread(_source)
    _require_harmless(asked.settings, _entries(source).get(model, {}))
    change = SetModel(model, asked.settings, asked.revision, is_trial=check)
    if not check:
        note_change(request, msgspec.json.encode(change).decode())
    return ModelSetBody.model_validate(msgspec.to_builtins(await set_model(change)))


def _source() -> Source:
    """Return the file. Raises `ApiError`."""
    try:
        return Source(config_path())
    except ConfigError as error:
        hint = f"mend it on its host; `{COMMAND} config check` looks again"
        raise ApiError("refused", f"{error}; {hint}") from None


def _entries(source: Source) -> dict[str, dict[str, Any]]:
    found = source.data.get("models")
    entries = found if isinstance(found, dict) else {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}


def _entry(found: dict[str, Any]) -> EntryBody:
    return EntryBody(
        settings={key: value for key, value in found.items() if key not in IN_FILE_ONLY},
        in_file_only=sorted(found.keys() & IN_FILE_ONLY),
    )


def _require_harmless(settings: dict[str, Any], before: dict[str, Any]) -> None:
    """Raises `ApiError` for what only those may change who may write the file."""
    path = config_path()
    for key in sorted(settings.keys() & IN_FILE_ONLY):
        why = "it can run other code on the host, or tell its secrets"
        raise invalid(f"settings.{key}", f"this key is changed in {path} alone: {why}")
    arguments = before.get("engine_args")
    passed = arguments if isinstance(arguments, dict) else {}
    trusts = before.get(_RUNS_CODE) or passed.get(_RUNS_CODE)
    if trusts and _CHECKPOINT in settings and settings[_CHECKPOINT] != before.get(_CHECKPOINT):
        why = f"the entry has `{_RUNS_CODE}`: its checkpoint's code runs on the host"
        raise invalid(f"settings.{_CHECKPOINT}", f"change it in {path}: {why}")
