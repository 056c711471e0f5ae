"""The values of the chart in deploy/helm, without Helm: what it declares, and what ew takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.config import Config
from contract.release import release
from tests.deploy.charts import CHART, EXAMPLES, paths_of

#: Whose keys are the user's.
FREE = frozenset({"config", "workers", "serviceMonitor.labels"})


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def declared(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the keys that a schema of values knows, dotted."""
    found = set()
    for key, below in schema.get("properties", {}).items():
        name = f"{path}.{key}".strip(".")
        found |= {name, *declared(below, name)}
    return found


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def test_the_chart_is_of_this_release() -> None:
    chart = read(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (release(), release())


def test_the_schema_has_every_value_and_no_other() -> None:
    free = FREE | {"gateway.resources", "valkey.resources"}
    assert declared(schema()) - {"global"} == set(paths_of(read(CHART / "values.yaml"), free))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_values_that_there_are_and_a_configuration_that_ew_takes(path: Path) -> None:
    values = read(path)
    free = FREE | {"gateway.resources", "valkey.resources"}
    assert set(paths_of(values, free)) <= declared(schema())
    of_worker = set(schema()["properties"]["workers"]["additionalProperties"]["properties"])
    models = Config.model_validate(values["config"]).models
    assert models
    for name, worker in values["workers"].items():
        assert worker.keys() <= of_worker
        assert {*worker.get("models", [name])} <= models.keys()
