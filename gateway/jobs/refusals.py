"""Why a job is not taken, in the words that a client reads."""

from __future__ import annotations

from contract.messages import State
from contract.paths import COMMAND
from gateway.http.errors import ApiError


def conflict() -> ApiError:
    """Return what is told of an `Idempotency-Key` that another request has."""
    message = "this `Idempotency-Key` was used for a different request"
    return ApiError("idempotency_conflict", message)


def no_model(name: str) -> ApiError:
    """Return what is told of a name that no model has, or none that the key may use."""
    return ApiError("model_not_found", f"there is no model `{name}`")


def cannot_load(model: str, problem: str) -> ApiError:
    """Return what is told of a model that no host can load."""
    return ApiError("model_cannot_load", f"model `{model}` cannot be loaded: {problem}")


def not_served(model: str, state: State, stage: str = "") -> ApiError:
    """Return what is told of a model that nothing runs, or will run by itself. It may be `READY` as
    last seen: it was stopped since, or lost its last worker."""
    if state is State.READY:
        message = f"model `{model}` has no worker at the moment; ask again soon"
        return ApiError("model_starting", message)
    if state is State.STARTING:
        doing = f": {stage}" if stage else ""
        return ApiError("model_starting", f"model `{model}` is starting{doing}; ask again soon")
    message = f"model `{model}` is not started; run `{COMMAND} start {model}`"
    return ApiError("model_not_started", message)
