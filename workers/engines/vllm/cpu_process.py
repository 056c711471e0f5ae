"""Imported by vLLM's own worker processes on a CPU: its class is their `worker_extension_cls`.

Linux lets a process use AMX, the matrix unit of newer Intel processors, only once it has asked. The
attention of vLLM 0.32 uses it without asking. oneDNN asks, but only before a large product, so that
a process that begins with a small one is ended: "Illegal instruction".
"""

from __future__ import annotations

import torch

# Neither has a public name.
if torch.cpu._is_amx_tile_supported():  # noqa: SLF001
    torch.cpu._init_amx()  # noqa: SLF001


class CpuProcess:
    """Adds nothing to vLLM's worker; importing it is what counts."""
