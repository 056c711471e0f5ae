"""Bytes, as people read them."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


def show(size_bytes: int) -> str:
    """Such as `17.3 GiB`; below a GiB in MiB, below a MiB in KiB."""
    if abs(size_bytes) >= GIB:
        return f"{size_bytes / GIB:.1f} GiB"
    if abs(size_bytes) >= MIB or size_bytes == 0:
        return f"{size_bytes / MIB:.0f} MiB"
    return f"{size_bytes / KIB:.1f} KiB"
