"""Gives the package the modules that its release has."""

import sys
from pathlib import Path

from . import lora_config
from .release import RELEASE

_HERE = Path(__file__).parent
_package = sys.modules[__package__]
if RELEASE["has_plans"]:
    _package.__path__.append(str(_HERE / "with_plans"))
if RELEASE["has_plan_module"]:
    _package.__path__.append(str(_HERE / "with_plan_module"))
sys.modules[f"{__package__}.{RELEASE['lora_module']}"] = lora_config
