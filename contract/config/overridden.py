"""The configuration with EW_* variables over it. Imported only where there are such variables:
pydantic-settings takes longer to import than most commands take."""

from __future__ import annotations

from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contract.config.schema import Config


class _Overridden(Config, BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EW_", env_nested_delimiter="__")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables win over the file (which comes as init arguments)."""
        return env_settings, init_settings


def read_overridden(data: dict[str, Any]) -> Config:
    """Return the configuration of a file's data and the environment. Raises `ValidationError`, and
    `ValueError` for a variable that cannot be read."""
    return _Overridden(**data)
