"""A stand-in for `pynvml`, for hosts without an NVIDIA GPU.

These are the real bindings of nvidia-ml-py, with their real exceptions and structures; only the
driver's C library below them is replaced, by `driver.ScriptedDriver`. PYNVML_SCENE names the JSON
file that says what it shows (see `driver`); it may change at any time. tests/standins/pynvml on
PYTHONPATH puts this package before the real one.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from .driver import ScriptedDriver

_HERE = Path(__file__).resolve().parent.parent


def _real_bindings() -> ModuleType:
    elsewhere = [place for place in sys.path if Path(place or ".").resolve() != _HERE]
    spec = PathFinder.find_spec("pynvml", elsewhere)
    assert spec is not None and spec.loader is not None, "nvidia-ml-py is not installed"
    spec.name = f"{__name__}.real_bindings"
    spec.loader.name = spec.name  # type: ignore[attr-defined]
    module = module_from_spec(spec)
    # They look themselves up by name while they make their exception classes.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_bindings = _real_bindings()
_bindings.nvmlLib = ScriptedDriver()  # type: ignore[attr-defined]
globals().update(
    {name: value for name, value in vars(_bindings).items() if not name.startswith("__")}
)
