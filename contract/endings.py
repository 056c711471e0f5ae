"""Why a worker ended, as it tells the supervisor: by exit codes of sysexits.h, and a line in its
log.

Any other code, and a signal, is a passing cause: the next start may do better.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

#: EX_UNAVAILABLE: a process of the engine was killed (SIGKILL) while it served.
ENGINE_KILLED: Final = 69
#: EX_SOFTWARE: the engine died while it served.
ENGINE_DIED: Final = 70
#: Nothing came from the engine any more.
ENGINE_HUNG: Final = 71
#: EX_CONFIG: the same start would end the same way, so there is no sense in another. The last line
#: with `REASON` in the log says why.
CANNOT_SERVE: Final = 78
REASON: Final = "cannot serve: "


class EndedBy(str, Enum):
    """The cause of a worker's end, as far as its supervisor can tell at once. A job that was alone
    in it may be to blame: surely where it ended by `ITSELF` (a crash, an error), perhaps where that
    is `UNCLEAR` (the host's memory was exhausted; it stood still), and hardly where it was killed
    from `OUTSIDE`, with its host, or by a fault of its GPU."""

    ITSELF = "itself"
    UNCLEAR = "unclear"
    OUTSIDE = "outside"


#: For how many days dead letters are kept, if the configuration says nothing else.
LETTER_DAYS: Final = 7
#: For how many days it is known what became of a job, if the configuration says nothing else.
TRACE_DAYS: Final = 7
