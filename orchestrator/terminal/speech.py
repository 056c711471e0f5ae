"""How ew speaks at a terminal: plainly, with a little colour where it is wanted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Final, TextIO

from contract.paths import as_called

_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
#: C0 and DEL as the signs that Unicode has for them, C1 by number: a terminal takes both as orders.
_VISIBLE: Final[dict[int, int | str]] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): "",
}
#: Longer than paths and addresses are; `between these` there may be spaces.
_ENDLESS: Final = re.compile(r"`[^`\n]{1000,}`|\S{1000,}")
_TOLD_OF_ENDLESS: Final = 60


def printable(text: str) -> str:
    """Return a text from outside, which must not move the cursor, set colours or titles,
    or answer for the user: what a terminal would obey is shown instead."""
    return text.translate(_VISIBLE)


def _shown(text: str) -> str:
    """Return a text that a person reads in full: of a word, or a name in it, that is longer than
    any that there can be, the beginning tells enough."""
    return printable(_ENDLESS.sub(_beginning, text))


def _beginning(found: re.Match[str]) -> str:
    word = found[0]
    quote = "`" if word[0] == "`" else ""
    return f"{word[:_TOLD_OF_ENDLESS]}...{quote} ({len(word) - 2 * len(quote)} characters)"


def styled(text: str, style: str, stream: TextIO) -> str:
    """Return the text in a style, if the stream is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Columns and lines, as the terminal itself says: the variables COLUMNS and LINES may be those
    of another one, or of a time before it was resized. 80 x 24 if it does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return size if size.columns > 0 else os.terminal_size((80, 24))


def say(text: str) -> None:
    """One line of talk, to stderr."""
    sys.stderr.write(f"{as_called(text)}\n")
    sys.stderr.flush()


def report(lines: Iterable[str]) -> None:
    """Lines that were asked for, to stdout, each as soon as it is known."""
    for line in lines:
        sys.stdout.write(f"{as_called(line)}\n")


def complain(message: str, hint: str = "") -> None:
    """An error, and the next step."""
    say(f"{styled('error:', 'red', sys.stderr)} {_shown(message)}")
    if hint:
        say(f"{styled('hint:', 'yellow', sys.stderr)} {_shown(hint)}")


def warn(message: str) -> None:
    say(f"{styled('warning:', 'yellow', sys.stderr)} {_shown(message)}")


def duration(seconds: float) -> str:
    """`45s`, `3m 5s`, `2h 10m`, `4d 2h`."""
    # Below 0 if the clock was set back since.
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def mebibytes(mib: float) -> str:
    """`512 MiB`, `1.2 GiB`."""
    if mib < 10:
        return f"{mib:.1f} MiB"
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"
