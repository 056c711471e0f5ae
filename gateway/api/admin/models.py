"""Changes of models, by this host's supervisor."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from contract.supervision.control import Load, Pin, RestartModels, StartModel, Unload
from gateway.admin.supervisor import ModelChange, change_models
from gateway.api.admin.guard import note_change
from gateway.api.admin.schemas import ChangeBody, OutcomeBody
from gateway.api.openapi import ADMIN_CHANGE_ERRORS
from gateway.lifecycle.process import process_of

router = APIRouter(responses=ADMIN_CHANGE_ERRORS)
Wait = Annotated[bool, Query(description="Answer when the change is over, however long it takes.")]


@router.post(
    "/models/{model:path}/start", summary="Start a model that is configured, beside what runs"
)
async def start_model(
    request: Request, response: Response, model: str, wait: Wait = False
) -> ChangeBody:
    return await _change(request, response, StartModel(_id_of(request, model)), wait=wait)


@router.post("/models/{model:path}/load", summary="Load a model that is loaded on demand")
async def load_model(
    request: Request, response: Response, model: str, wait: Wait = False
) -> ChangeBody:
    return await _change(request, response, Load(_id_of(request, model)), wait=wait)


@router.post("/models/{model:path}/unload", summary="Unload such a model, until it is asked for")
async def unload_model(
    request: Request, response: Response, model: str, wait: Wait = False
) -> ChangeBody:
    return await _change(request, response, Unload(_id_of(request, model)), wait=wait)


@router.post("/models/{model:path}/pin", summary="Never unload such a model for another")
async def pin_model(request: Request, response: Response, model: str) -> ChangeBody:
    asked = Pin(_id_of(request, model), is_pinned=True)
    return await _change(request, response, asked, wait=True)


@router.post("/models/{model:path}/unpin", summary="Let such a model be unloaded again")
async def unpin_model(request: Request, response: Response, model: str) -> ChangeBody:
    asked = Pin(_id_of(request, model), is_pinned=False)
    return await _change(request, response, asked, wait=True)


@router.post(
    "/models/{model:path}/restart",
    summary="Replace a model's workers, with the settings of the configuration file",
)
async def restart_model(
    request: Request, response: Response, model: str, wait: Wait = False
) -> ChangeBody:
    asked = RestartModels([_id_of(request, model)])
    return await _change(request, response, asked, wait=wait)


@router.post(
    "/gateway/restart",
    summary="Replace the gateway's processes; open answers go on",
)
async def restart_gateway(request: Request, response: Response) -> ChangeBody:
    return await _change(request, response, RestartModels([], gateway=True), wait=False)


async def _change(
    request: Request, response: Response, asked: ModelChange, *, wait: bool
) -> ChangeBody:
    note_change(request, msgspec.json.encode(asked).decode())
    outcomes = await change_models(asked, to_the_end=wait)
    if outcomes is None:
        response.status_code = 202
        return ChangeBody(done=False)
    shown = [OutcomeBody.model_validate(msgspec.to_builtins(each)) for each in outcomes]
    return ChangeBody(done=True, outcomes=shown)


def _id_of(request: Request, name: str) -> str:
    """Return the id of a model. One that is not configured may run all the same: the supervisor
    knows."""
    return process_of(request).models.id_of(name) or name
