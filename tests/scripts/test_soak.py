"""The soak in short: two hosts, each kind of fault once, every token looked at. And that it would
see a token that is missing, or there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.paths import ROOT

PROGRAM = ROOT / "scripts" / "programs" / "soak"
#: The tokens that an answer of four is said to have, and what is then counted.
HEAR = """
import json, sys
sys.path.insert(0, sys.argv[1])
from streams import Answer, Counts
counts = Counts()
answer = Answer(counts, 4)
for text in json.loads(sys.argv[2]):
    answer.hear(text)
answer.end()
print(json.dumps([counts.lost, counts.duplicated, counts.wrong, counts.is_clean]))
"""
#: A figure at each minute of an hour, and the line that is put through it.
TREND = """
import json, sys
sys.path.insert(0, sys.argv[1])
from samples import _trend
print(json.dumps(_trend([(60 * n, 100 + 3 * n / 60 + n % 2) for n in range(60)])))
"""


def said(code: str, *arguments: str) -> Any:
    """Run code with the modules of the soak, which are no package; return what it prints."""
    command = [sys.executable, "-c", code, str(PROGRAM), *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("heard", "counted"),
    [
        (["0 ", "1 ", "2 3 "], [0, 0, 0, True]),
        (["0 ", "2 ", "3 "], [1, 0, 0, False]),
        (["0 ", "1 ", "1 ", "2 ", "3 "], [0, 1, 0, False]),
        (["0 ", "1 "], [2, 0, 0, False]),
        (["0 ", "1 ", "2 ", "3 ", "4 "], [0, 0, 1, False]),
        (["0 ", "1x", "2 ", "3 "], [1, 0, 1, False]),
    ],
)
def test_each_token_counts(heard: list[str], counted: list[Any]) -> None:
    assert said(HEAR, json.dumps(heard)) == counted


def test_growth_is_told_from_noise() -> None:
    _, _, _, per_hour, give_or_take, samples = said(TREND)
    assert per_hour == pytest.approx(3, abs=2 * give_or_take)
    assert give_or_take < 0.5
    assert samples == 60


@pytest.mark.timeout(300)
def test_no_token_is_lost_or_there_twice_whatever_is_killed_stopped_or_cut(tmp_path: Path) -> None:
    brief = "--seconds 15 --every 0.6 1.2 --scale 0.3 --sample 2"
    small = "--streams 32 --tokens 60 --replicas 1 --processes 1"
    command = [ROOT / "scripts" / "soak", "--out", tmp_path, *brief.split(), *small.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads((tmp_path / "soak.json").read_text())
    streams = found["streams"]
    assert (streams["lost"], streams["duplicated"], streams["wrong"]) == (0, 0, 0)
    assert streams["failed"] == {}
    assert found["run"]["crashes"] == []
    assert streams["answered"] >= 32
    assert streams["accounted"] == streams["tokens"] > 32 * 10
    assert streams["resumed"] > 0
    assert len(found["faults"]) == 15
    assert all(each["done"] for each in found["faults"].values())
    proofs = [entry["proof"] for entry in found["fault_log"] if "proof" in entry]
    assert sum("has ended" in proof for proof in proofs) >= 5
    assert sum("stood still" in proof for proof in proofs) >= 5
    assert "0 lost, 0 duplicated" in done.stdout
