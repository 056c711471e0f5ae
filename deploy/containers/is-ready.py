"""Exit with 0 if every model of this container is ready: loaded, asleep, or loaded on demand. The
readiness of a pod with workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EW = Path(__file__).resolve().parents[2] / "ew"
asked = subprocess.run([EW, "status", "--json"], capture_output=True, text=True, check=False)
status = json.loads(asked.stdout or "{}")
if not (status.get("supervisor") or {}).get("alive"):
    sys.exit("no supervisor")
models = status.get("models", ())
waits = [
    f"{each['id']} is {each['state']}"
    for each in models
    if each["state"] not in ("ready", "sleeping") and each["load"] != "on-demand"
]
sys.exit(", ".join(waits) or (0 if models else "no model is started"))
