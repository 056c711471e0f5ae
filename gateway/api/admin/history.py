"""The last hour of GPUs and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter

from contract.supervision.history import GpuSample, ModelSample, read_history
from gateway.api.admin.schemas import HistoryBody
from gateway.api.openapi import ADMIN_ERRORS

router = APIRouter(responses=ADMIN_ERRORS)


@router.get("/history", summary="What GPUs and models of this host did in the last hour")
def get_history() -> HistoryBody:
    samples = read_history()
    gpus = {uuid for sample in samples for uuid in sample.gpus}
    models = {model for sample in samples for model in sample.models}
    return HistoryBody(
        at_unix_s=[sample.at_unix_s for sample in samples],
        gpus={
            uuid: _columns(GpuSample, [each.gpus.get(uuid) for each in samples]) for uuid in gpus
        },
        models={
            model: _columns(ModelSample, [each.models.get(model) for each in samples])
            for model in models
        },
    )


def _columns(
    form: type[msgspec.Struct], samples: Sequence[GpuSample | ModelSample | None]
) -> dict[str, list[Any]]:
    """Return the fields of samples, each as a list with None where there is no sample."""
    return {
        name: [None if each is None else getattr(each, name) for each in samples]
        for name in form.__struct_fields__
    }
