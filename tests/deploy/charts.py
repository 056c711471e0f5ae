"""The chart of deploy/helm, and what Helm makes of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.tools import DEPLOY, helm

CHART: Final = DEPLOY / "helm" / "ew"
EXAMPLES: Final = sorted((CHART / "examples").glob("*.yaml"))
NAMESPACE: Final = "llm"


class Manifests:
    """The objects of a release `t`."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    @property
    def pods(self) -> list[dict[str, Any]]:
        """The templates of all pods."""
        return [each["spec"]["template"] for each in self.of("Deployment", "StatefulSet")]

    @property
    def config(self) -> dict[str, Any]:
        (found,) = self.of("ConfigMap")
        config: dict[str, Any] = json.loads(found["data"]["config.json"])
        return config


def render(*arguments: str, values: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `helm template`."""
    given = ["--values", str(values)] if values else []
    command = [str(helm()), "template", "t", str(CHART), "--namespace", NAMESPACE]
    return subprocess.run(
        [*command, *given, *arguments], capture_output=True, text=True, check=False
    )


def manifests(values: Path, *arguments: str) -> Manifests:
    """Return the objects that a file of values makes."""
    done = render(*arguments, values=values)
    assert done.returncode == 0, done.stderr
    return Manifests([each for each in yaml.safe_load_all(done.stdout) if each])


def paths_of(values: object, free: frozenset[str], path: str = "") -> Iterator[str]:
    """Yield the keys of a tree of values, dotted; nothing below those that are free."""
    if isinstance(values, dict) and path not in free:
        for key, value in values.items():
            below = f"{path}.{key}".strip(".")
            yield below
            yield from paths_of(value, free, below)
