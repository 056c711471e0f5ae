"""Why a worker ended, as it tells the supervisor: by exit codes of sysexits.h, and a line in its
log.

Any other code, and a signal, is a passing cause: the next start may do better.
"""

from __future__ import annotations

from typing import Final

#: EX_SOFTWARE: the engine died while it served.
ENGINE_DIED: Final = 70
#: Nothing came from the engine any more.
ENGINE_HUNG: Final = 71
#: EX_CONFIG: the same start would end the same way, so there is no sense in another. The last line
#: with `REASON` in the log says why.
CANNOT_SERVE: Final = 78
REASON: Final = "cannot serve: "
#: For how many days dead letters are kept, if the configuration says nothing else.
LETTER_DAYS: Final = 7
