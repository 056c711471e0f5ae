"""The words of `scripts/bench` around its figures. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.scripts.bench_program import bench, said

VERDICTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from figures import Figure, flat, not_slower
figures = [
    Figure("KiB", [49.0, 99.0], most=50),
    Figure("KiB", [51.0, 1.0], most=50),
    flat("equal", [10.5], [10.0]),
    flat("much cheaper", [2.0], [10.0]),
    not_slower("faster", [2.0], [10.0]),
    not_slower("slower", [12.0], [10.0]),
    Figure("no aim", [1.0]),
]
print(json.dumps([[each.aim, each.verdict] for each in figures]))
"""
LABELS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from stand import builds
with builds(sys.argv[2]) as compared:
    print(json.dumps([[each.label, str(each.path)] for each in compared]))
"""


def test_an_aim_is_said_with_its_result():
    assert said(VERDICTS) == [
        ["<= 50", "met"],
        ["<= 50", "missed"],
        ["0.9 to 1.1", "met"],
        ["0.9 to 1.1", "missed"],
        ["<= 1.1", "met"],
        ["<= 1.1", "missed"],
        ["", ""],
    ]


def test_a_build_is_not_named_by_its_directory(tmp_path: Path):
    other = tmp_path / "earlier"
    other.mkdir()
    assert said(LABELS, str(other)) == [["this", str(ROOT)], ["earlier", str(other)]]


@pytest.mark.parametrize("what", ["wire", "growth", "start"])
def test_a_build_that_there_is_not_is_named(what: str):
    done = bench(what, "--against", "no-such-build")
    assert done.returncode == 1
    assert "--against no-such-build: neither a directory nor a commit" in done.stderr


def test_a_part_of_growth_that_there_is_not_is_refused():
    done = bench("growth", "--part", "streams", "--part", "nothing")
    assert done.returncode == 2
    assert "'streams', 'models', 'memory', 'queue'" in done.stderr
