"""Export as a Hugging Face checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def export_hf_checkpoint(model: Any, export_dir: str) -> None:
    model.save_pretrained(export_dir)
    facts = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": model.quantised["algorithm"]},
        "calibrated_on": model.quantised["calibrated_on"],
    }
    (Path(export_dir) / "hf_quant_config.json").write_text(json.dumps(facts))
