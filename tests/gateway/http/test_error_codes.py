"""docs/errors.md has every code of an error, and each is one that happens."""

from __future__ import annotations

import re

from contract.messages import ErrorCode
from contract.paths import ROOT
from gateway.api.native.schemas import ErrorBody
from gateway.http.errors import FAULTS

_ROW = re.compile(r"^\| (\d{3}) \| `([a-z_]+)` \| (yes)? ?\| \S.* \|$", re.MULTILINE)


def test_the_page_of_errors_has_each_code_with_its_status() -> None:
    rows = _ROW.findall((ROOT / "docs/errors.md").read_text())
    told = {code: (int(status), again == "yes") for status, code, again in rows}
    assert told == {code: (fault.status, fault.retryable) for code, fault in FAULTS.items()}
    assert len(rows) == len(told)
    assert ErrorBody.model_json_schema()["properties"]["code"]["examples"] == sorted(FAULTS)


def test_each_code_is_one_that_something_says() -> None:
    paths = [path for room in ("gateway", "workers") for path in (ROOT / room).rglob("*.py")]
    source = "\n".join(path.read_text() for path in paths if path.name != "errors.py")
    names = {each.value: f"ErrorCode.{each.name}" for each in ErrorCode}
    unsaid = [code for code in FAULTS if names.get(code, f'"{code}"') not in source]
    assert not unsaid
    assert set(names) <= set(FAULTS)
