"""Which release of ew this is."""

from __future__ import annotations

from functools import cache

from contract.paths import ROOT


@cache
def release() -> str:
    """Such as `0.1.0`."""
    project = ROOT / "pyproject.toml"
    if not project.exists():
        from importlib import metadata

        return metadata.version("ew")
    # Python 3.11 has it, and so have the processes that ask.
    import tomllib  # type: ignore[import-not-found,unused-ignore]

    version: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return version
