"""`ew status --watch`: the status on the whole screen, again every second, in a window of rows that
keys move and sort."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from rich.live import Live
from rich.text import Text

from contract.messages import State
from contract.supervision.status import ModelStatus, RunStatus
from orchestrator.cli.status_screen.text import StatusTable, StatusText
from orchestrator.terminal.fitting import clipped
from orchestrator.terminal.keyboard import Keyboard
from orchestrator.terminal.speech import styled, terminal_size

_EVERY_S: Final = 1.0
_UP: Final = ("up", "k")
_DOWN: Final = ("down", "j")
_PAGE_UP: Final = ("page up", "b")
_PAGE_DOWN: Final = ("page down", " ")
_FIRST: Final = ("home", "g")
_LAST: Final = ("end", "G")
_SORT: Final = "s"
_QUIT: Final = ("q", "escape")
#: The worst comes first.
_STATES: Final = (
    State.FAILED,
    State.STOPPING,
    State.STARTING,
    State.READY,
    State.SLEEPING,
    State.STOPPED,
)
_ORDERS: Final[dict[str, Callable[[ModelStatus], Any]]] = {
    "name": lambda model: model.id,
    "state": lambda model: _STATES.index(model.state),
    "queue": lambda model: -(model.waiting or 0),
    "tok/s": lambda model: -model.tokens_per_s,
    "memory": lambda model: -sum(worker.rss_mib or 0 for worker in model.workers),
}
_AS_STARTED: Final = "start"


class Window:
    """The rows that are seen, of all that there are. The title of the table that the first of them
    is in stays above them."""

    def __init__(self) -> None:
        self.top = 0
        self.order = _AS_STARTED
        self._height = 1
        self._count = 0

    def press(self, key: str) -> None:
        """Move, or sort; what means nothing does nothing."""
        if key == _SORT:
            orders = [_AS_STARTED, *_ORDERS]
            self.order = orders[(orders.index(self.order) + 1) % len(orders)]
            self.top = 0
        elif key in _FIRST:
            self.top = 0
        else:
            self.top += self._step(key)

    def _step(self, key: str) -> int:
        steps = {
            _UP: -1,
            _DOWN: 1,
            _PAGE_UP: -self._height,
            _PAGE_DOWN: self._height,
            _LAST: self._count,
        }
        return next((step for keys, step in steps.items() if key in keys), 0)

    def sorted(self, status: RunStatus) -> RunStatus:
        """Return the status with its models in the order that was chosen."""
        if self.order == _AS_STARTED:
            return status
        models = sorted(status.models, key=_ORDERS[self.order])
        return msgspec.structs.replace(status, models=models)

    def lines(self, tables: Sequence[StatusTable], height: int) -> list[str]:
        """At most so many lines: a title, and rows."""
        rows = [(table.title, row) for table in tables for row in ("", *table.rows)][1:]
        self._height, self._count = max(height - 1, 1), len(rows)
        self.top = max(0, min(self.top, self._count - self._height))
        if not rows or height < 1:
            return []
        seen = rows[self.top : self.top + self._height]
        pinned = seen[0][0]
        return [pinned, *(row or self._between(title, pinned) for title, row in seen)][:height]

    def _between(self, title: str, pinned: str) -> str:
        """Return the title of a table, where it begins."""
        return title if title != pinned else ""

    @property
    def place(self) -> str:
        """Which rows are seen."""
        if self._count <= self._height:
            return ""
        return f"{self.top + 1}-{min(self.top + self._height, self._count)} of {self._count}"


class Layout:
    """Lays out the status, and a last line that says which keys there are."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def lines(self, status: RunStatus, now_unix_s: float, width: int, height: int) -> list[str]:
        """Never more lines than `height`, nor any wider than `width`."""
        text = StatusText(sys.stdout, width)
        status = self._window.sorted(status)
        head = text.head(status, now_unix_s)[: height - 1]
        tables = text.tables(status, now_unix_s)
        rows = self._window.lines(tables, height - len(head) - 2)
        body = [*head, "", *rows][: height - 1]
        return [*body, *[""] * (height - 1 - len(body)), self._footer(width)]

    def _footer(self, width: int) -> str:
        keys = f"q quit  s sort: {self._window.order}  ↑↓ PgUp PgDn Home End"
        place = self._window.place
        line = f"{keys}  {place}" if place else keys
        return styled(clipped(line, width), "dim", sys.stdout)


def watch(current: Callable[[], RunStatus]) -> None:
    """Show it until told to quit; the terminal is then as it was, whatever the reason."""
    window = Window()
    layout = Layout(window)
    with Keyboard(sys.stdin) as keyboard, Live(auto_refresh=False, screen=True) as live:
        due, status = 0.0, RunStatus(0.0)
        while True:
            if time.monotonic() >= due:
                due, status = time.monotonic() + _EVERY_S, current()
            width, height = live.console.size = terminal_size(sys.stdout)
            lines = layout.lines(status, time.time(), width, height)
            text = Text("\n", no_wrap=True, end="").join(map(Text.from_ansi, lines))
            live.update(text, refresh=True)
            for key in keyboard.read(max(0.0, due - time.monotonic())):
                if key in _QUIT:
                    return
                window.press(key)
