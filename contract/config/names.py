"""The names that models go by: each stands for one model, or for an adapter of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from contract.config.model import ModelConfig
from contract.config.section import ModelId

#: Keys that workers know nothing of, and need not start anew for.
GATEWAY_FIELDS: Final = frozenset(
    {"aliases", "hosts", "served_model_name", "sampling", "fallback", "split", "shadow"}
)

#: Keys by which the host would run other code, or tell its secrets to others: whoever may write
#: them may do all that ew's user may. They are changed in the file, and not over HTTP.
IN_FILE_ONLY: Final = frozenset(
    {
        "api_key_env",
        "base_url",
        "command",
        "engine_args",
        "env",
        "pass_env",
        "trust_remote_code",
    }
)


def names_of(model_id: str, model: ModelConfig) -> list[str]:
    """Return all names of a model, its id first."""
    served = [model.served_model_name] if model.served_model_name else []
    return list(dict.fromkeys([model_id, *served, *model.aliases]))


def ids_by_name(models: Mapping[str, ModelConfig]) -> dict[str, str]:
    """Return the id of each model, by every name that it has."""
    return {
        name: model_id for model_id, model in models.items() for name in names_of(model_id, model)
    }


def targets_of(model: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Return the ids of other models that an entry names, by the key that names them."""
    return {
        "fallback": model.fallback.to if model.fallback else (),
        "split": tuple(model.split.to) if model.split else (),
        "shadow": (model.shadow.to,) if model.shadow else (),
    }


class Named(NamedTuple):
    """The meaning of a name: a model, or an adapter that is served with it."""

    model: str
    adapter: str | None = None

    def __str__(self) -> str:
        return f"an adapter of `{self.model}`" if self.adapter else f"`{self.model}`"


def meanings(models: Mapping[str, ModelConfig]) -> Iterator[tuple[str, Named]]:
    """Yield all names that a request may give, each with what it stands for."""
    for model_id, model in models.items():
        for name in names_of(model_id, model):
            yield name, Named(model_id)
        for name in model.adapters:
            yield name, Named(model_id, name)


def _with_names_of_their_own(models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
    owners: dict[str, Named] = {}
    for name, named in meanings(models):
        owner = owners.setdefault(name, named)
        if owner != named:
            message = "`{name}` is a name of both {owner} and {other}; a name has one model"
            raise PydanticCustomError(
                "name_taken", message, {"name": name, "owner": str(owner), "other": str(named)}
            )
    return models


Models = Annotated[dict[ModelId, ModelConfig], AfterValidator(_with_names_of_their_own)]
