"""Why a job is not taken, in the words that a client reads."""

from __future__ import annotations

from contract.messages import State
from contract.paths import COMMAND
from gateway.http.errors import ApiError


def conflict() -> ApiError:
    """Return what is told of an `Idempotency-Key` that another request has."""
    message = "this `Idempotency-Key` was used for a different request"
    return ApiError("idempotency_conflict", message)


def cannot_load(model: str, problem: str) -> ApiError:
    """Return what is told of a model that no host can load."""
    return ApiError("model_cannot_load", f"model `{model}` cannot be loaded: {problem}")


def not_served(model: str, state: State) -> ApiError:
    """Return what is told of a model that nothing runs, or will run by itself."""
    if state in (State.STARTING, State.READY):
        return ApiError("model_starting", f"model `{model}` is starting; ask again soon")
    message = f"model `{model}` is not started; run `{COMMAND} start {model}`"
    return ApiError("model_not_started", message)
