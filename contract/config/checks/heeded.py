"""Keys of a model's entry that have no effect, or are set twice: no mistakes, but hardly meant."""

from __future__ import annotations

from collections.abc import Iterator

from contract.config.model import ModelConfig
from contract.config.names import targets_of
from contract.config.schema import Config
from contract.config.wording import Mistake
from contract.engines import declaration_of


def remarks(config: Config) -> Iterator[Mistake]:
    """Yield what to mind, key by key."""
    for model_id, model in config.models.items():
        for keys, message in [*_of_model(model), *_of_routes(config, model)]:
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


def _of_routes(config: Config, model: ModelConfig) -> Iterator[tuple[list[str], str]]:
    """Requests that a model takes are not moved to one that cannot take them."""
    for key, targets in targets_of(model).items():
        for target in targets:
            for what in _lacks(model, config.models[target]):
                yield [key], f"names `{target}`, which {what}: such requests stay"


def _lacks(model: ModelConfig, other: ModelConfig) -> Iterator[str]:
    """Yield each thing that a model is configured for and another is not."""
    for what, mine, others in (
        ("takes", model.context_len, other.context_len),
        ("answers with", model.max_output_len, other.max_output_len),
    ):
        if mine and others and others < mine:
            yield f"{what} {others} tokens at most, and this model {mine}"
    if model.tool_parser != "none" and other.tool_parser == "none":
        yield "calls no tools (`tool_parser`), and this model may"
