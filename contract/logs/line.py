"""Lines of logs: what each says of itself, and where it belongs among those of other processes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

_TIME: Final = r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))"
#: As `contract.process.logs` writes them, and as Valkey does.
_TIMED: Final = re.compile(
    rf"{_TIME} (?P<level>[A-Z]+) +(?P<process>\S+) (?P<message>.*)"
    rf"|\d+:[A-Z] {_TIME.replace('time', 'when')} (?P<mark>[.*#-]) (?P<said>.*)"
)
#: Engines begin with the level, and vLLM with the process before it.
_LEVEL: Final = re.compile(r"(?:\([^)]*\) )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_VALKEY_LEVELS: Final = {".": "DEBUG", "-": "INFO", "*": "INFO", "#": "WARNING"}


class LogLine(NamedTuple):
    """One line. `time` is ISO 8601 with its zone; null, like `level`, where the line has none.
    `unit` is whose log it is in, and `process` the writer, as it calls itself."""

    unit: str
    time: str | None
    process: str | None
    level: str | None
    message: str
    text: str
    #: Its place among others, in Unix seconds: a line without a time follows the one before.
    at: float = 0.0

    def as_json(self) -> dict[str, str | None]:
        return {
            "time": self.time,
            "unit": self.unit,
            "process": self.process,
            "level": self.level,
            "message": self.message,
        }


class _JsonLine(msgspec.Struct):
    """The fields of a line in JSON that all have."""

    time: str
    level: str
    process: str
    logger: str
    message: str


_decode = msgspec.json.Decoder(_JsonLine).decode
_JSON_BEGINS: Final = '{"time":'


def parse(unit: str, text: str) -> LogLine:
    if text.startswith(_JSON_BEGINS):
        try:
            line = _decode(text)
        except msgspec.MsgspecError:
            pass
        else:
            message = f"{line.logger}: {line.message}"
            return LogLine(unit, line.time, line.process, line.level, message, text)
    found = _TIMED.fullmatch(text)
    if found is None:
        level = _LEVEL.match(text)
        return LogLine(unit, None, None, level[1] if level else None, text, text)
    if found["mark"]:
        level_of_valkey = _VALKEY_LEVELS[found["mark"]]
        return LogLine(unit, found["when"], "valkey", level_of_valkey, found["said"], text)
    return LogLine(unit, found["time"], found["process"], found["level"], found["message"], text)


def unix_s(line: LogLine) -> float | None:
    """Return when it was written, if it says so."""
    try:
        return None if line.time is None else datetime.fromisoformat(line.time).timestamp()
    except ValueError:
        return None


def placed(lines: list[LogLine], at: float) -> list[LogLine]:
    """Return the lines of one log, in its order, each with its place in time. Those before the
    first that has a time stand just before that one; `at` is the place if none has."""
    times = [unix_s(line) for line in lines]
    place = next((time for time in times if time is not None), at)
    result = []
    for line, time in zip(lines, times, strict=True):
        # A clock that was set back does not change the order within a log.
        place = place if time is None else max(place, time)
        result.append(line._replace(at=place))
    return result


def merged(logs: Iterable[list[LogLine]]) -> list[LogLine]:
    """Return the lines of several logs by time."""
    return sorted((line for log in logs for line in log), key=lambda line: line.at)
