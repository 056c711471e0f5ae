"""GPU memory that the mock engine pretends to take."""

from __future__ import annotations

import json
import os
from pathlib import Path


def allocate(mib: int) -> None:
    """Tell a scripted driver that this process takes memory on each of its GPUs, or gives some
    back."""
    scene = os.environ.get("PYNVML_SCENE")
    if not scene or not mib:
        return
    uuids = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    lines = [json.dumps({"pid": os.getpid(), "uuid": uuid, "mib": mib}) for uuid in uuids]
    with Path(f"{scene}.allocations").open("a") as allocations:
        allocations.write("".join(f"{line}\n" for line in lines))
