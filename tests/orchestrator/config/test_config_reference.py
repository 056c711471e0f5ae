"""docs/configuration.md has every key of the schema and every variable, and says what they say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from contract.config.variables import OTHERS, SECTIONS, unknown_variables
from contract.config.wording import schema
from contract.paths import ROOT
from orchestrator.config.reference import reference

#: Variables that ew sets for its own processes, and words that only look like variables.
INTERNAL = re.compile(
    r"EW_(WORKER|RUN_\w*|REDIS_URL|GATEWAY_INSTANCE|KEY_\w*|COMPLETE)|EW_\w+__\w+"
)
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()


def documented(section: str) -> set[str]:
    """Return the keys in the table of a section."""
    _, _, rest = DOCUMENT.partition(f"\n## `{section}`\n")
    return set(re.findall(r"^\| `(\w+)` \|", rest.partition("\n## ")[0], re.MULTILINE))


def test_it_is_as_the_command_prints_it() -> None:
    assert reference() == DOCUMENT, "./ew config reference > docs/configuration.md"


@pytest.mark.parametrize("section", SECTIONS)
def test_it_has_the_keys_of_the_schema_and_no_others(section: str) -> None:
    name = "models.ID" if section == "models" else section
    assert documented(name) == set(SECTIONS[section].model_fields)


def test_every_section_and_key_is_explained() -> None:
    def unexplained(kind: str, node: dict[str, Any]) -> list[str]:
        return [f"{kind}.{key}" for key, each in node.items() if not each.get("description")]

    kinds = schema()["$defs"].items()
    assert [name for kind, node in kinds for name in unexplained(kind, node["properties"])] == []
    explained = {row.split("|")[1].strip(" `") for row in DOCUMENT.splitlines() if row[:3] == "| `"}
    assert {key for _, node in kinds for key in node["properties"]} | set(OTHERS) == explained


def test_it_has_every_variable_that_ew_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = ("contract", "gateway", "workers", "orchestrator")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "ew", *ROOT.glob("scripts/bootstrap*"), ROOT / "scripts" / "launcher.py"]
    read = {name for file in files for name in re.findall(r'["$\{](EW_[A-Z_]+)', file.read_text())}
    read = {name for name in read if not INTERNAL.fullmatch(name) and name != "EW_"}
    assert read == set(OTHERS)
    monkeypatch.setenv("EW_STATE_DIRR", "/x")
    assert "EW_STATE_DIRR means nothing to ew; did you mean EW_STATE_DIR?" in unknown_variables()
