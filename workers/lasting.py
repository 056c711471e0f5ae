"""Which failures of a start are lasting: the same start would end the same way.

Engines have no type of their own for it, and an adapter need not import every library that one
engine uses: types are known by their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

#: `ValidationError` is pydantic's, in which engines check their configuration.
_LASTING: Final = frozenset({"CannotServe", "ValidationError", "ImportError"})
#: Of huggingface_hub, somewhere below what an engine makes of it.
_OF_HUB: Final = frozenset(
    {"GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}
)
#: Below a failure that looks lasting: no server could be asked.
_PASSING: Final = frozenset(
    {"ConnectionError", "Timeout", "TransportError", "OfflineModeIsEnabled"}
)
_LONGEST: Final = 240


def lasting_reason(error: BaseException) -> str | None:
    """Return why it is of no use to start again, in one line; None if it may be of use."""
    causes = list(_causes(error))
    if any(_kinds(each) & _PASSING for each in causes):
        return None
    if _kinds(error) & _LASTING:
        return _in_one_line(error)
    hub = next((each for each in causes if _kinds(each) & _OF_HUB), None)
    return None if hub is None else f"{type(hub).__name__}: {_in_one_line(error)}"


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, and those that it came of."""
    if error is None:
        return
    yield error
    for each in _details(error):
        yield from _causes(each.get("ctx", {}).get("error"))
    yield from _causes(
        error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    )


def _details(error: BaseException) -> list[dict[str, Any]]:
    """Return what pydantic has against each of several values."""
    found = error.errors() if "ValidationError" in _kinds(error) else []  # type: ignore[attr-defined]
    return [dict(each) for each in found]


def _in_one_line(error: BaseException) -> str:
    messages = [_of_one_value(each) for each in _details(error)] or [str(error)]
    text = " ".join("; ".join(messages).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _of_one_value(detail: dict[str, Any]) -> str:
    name = ".".join(map(str, detail["loc"]))
    said = str(detail["msg"]).removeprefix("Value error, ")
    return f"`{name}`: {said}" if name else said
