"""Python's garbage collector in processes that hold much for long, and make much for a moment:
gateways and workers."""

from __future__ import annotations

import gc
from typing import Final

#: Larger than Python's own. To read some thousand events makes as many objects, which all go at
#: once; by its own, each read looked through all that open answers hold, which took 60 % of the
#: reader's CPU time, and up to half a second in one go with 2000 of them. In a worker with 256
#: answers it was a tenth of the time. The first number bounds a look at what is new (2 ms), with
#: the second one at what is a little older (5 ms): many streams that come at once are both.
GC_THRESHOLDS: Final = (7_000, 1, 700)


def settle() -> None:
    """Never look again at what is there now, and seldom at what lives for long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
