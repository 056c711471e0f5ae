"""Keys of a model's entry that have no effect, or are set twice: no mistakes, but hardly meant."""

from __future__ import annotations

from collections.abc import Iterator

from contract.config.model import ModelConfig
from contract.config.schema import Config
from contract.config.wording import Mistake
from contract.engines import declaration_of


def remarks(config: Config) -> Iterator[Mistake]:
    """Yield what to mind, key by key."""
    for model_id, model in config.models.items():
        for keys, message in _of_model(model):
            path = ["models", model_id, *keys]
            yield Mistake(path, f"`{'.'.join(path)}` {message}")


def _of_model(model: ModelConfig) -> Iterator[tuple[list[str], str]]:
    declared = declaration_of(model.engine)
    for key in declared.unheeded:
        if key in model.model_fields_set:
            yield [key], f"means nothing to the engine `{model.engine}`; remove it"
    same = declared.same_as
    for argument in model.engine_args:
        if argument in same:
            message = f"wins over `{same[argument]}`, which says the same; give that alone"
            yield ["engine_args", argument], message
