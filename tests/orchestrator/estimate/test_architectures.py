"""ew's own reading against what vLLM itself makes of every architecture that it has, as far as a
checkpoint can be made of defaults: context, what layers keep, and the places for LoRA adapters.

architectures.json names what is known to differ, or to be told by nobody, each with its reason; in
`releases`, what is so in one of them alone. What is not in it fails here, and so does what is in it
without need. After an update of vLLM, look at what is new: mend it by its kind (a way of saying it
that families share), or name it. EW_TEST_VLLM_PYTHON names the python of another vLLM.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, Question, ask, differences, remembered
from orchestrator.estimate.running import Card
from tests.engines.contract.engines import vllm_python

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(3600)]
HERE: Final = Path(__file__).parent
TABLES: Final[dict[str, Any]] = json.loads((HERE / "architectures.json").read_text())
CARD: Final = Card("NVIDIA H200", 141 * 2**30)
#: Models that are asked about in one process.
AT_ONCE: Final = 40
#: Places for adapters, of vLLM's own count.
LEAST, MOST = 0.9, 1.25


class Made(NamedTuple):
    """The checkpoints in `home`, what vLLM says of each, and the architectures without one."""

    home: Path
    answers: dict[str, Description]
    unknown: list[str]
    release: str

    @property
    def said(self) -> dict[str, Description]:
        return {name: each for name, each in self.answers.items() if not each.error}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home, python = tmp_path_factory.mktemp("architectures"), Path(vllm_python())
    done = subprocess.run(
        [str(python), str(HERE / "default_checkpoints.py"), str(home)],
        input=json.dumps(TABLES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    listed = json.loads(done.stdout.splitlines()[-1])
    release = listed["release"].partition("+")[0]
    answers: dict[str, Description] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EW_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        names = listed["written"]
        for first in range(0, len(names), AT_ONCE):
            some = {name: question(home / name, release) for name in names[first : first + AT_ONCE]}
            assert ask([*some.values()], python, within_s=1200) == ""
            for name, each in some.items():
                answer = remembered(each)
                assert answer is not None
                answers[name] = answer
    return Made(home, answers, listed["unknown"], release)


def question(path: Path, release: str) -> Question:
    return Question.of(ModelConfig(model_path=str(path)), "cpu-vllm", release, CARD)


def assert_named(found: dict[str, str], table: str, release: str) -> None:
    """Each of what was found is in a table, or in that of this release, and nothing else is."""
    of_release = TABLES["releases"].get(release.rpartition(".")[0], {})
    known = {*TABLES[table], *of_release.get(table, ())}
    assert {name: found[name] for name in found if name not in known} == {}
    assert sorted(known - set(found)) == []


def test_architectures_without_a_configuration_are_named(made: Made) -> None:
    assert_named(
        dict.fromkeys(made.unknown, "no class has its configuration"), "no_class", made.release
    )


def test_what_vllm_makes_nothing_of_is_named(made: Made) -> None:
    assert_named(
        {name: a.error for name, a in made.answers.items() if a.error}, "not_said", made.release
    )


def test_ew_reads_what_vllm_reads(made: Made) -> None:
    found = {}
    for name, answer in made.said.items():
        try:
            differs = differences(read_checkpoint(made.home / name, answer.release), answer)
        except UserError as error:
            differs = [error.message]
        if differs:
            found[name] = "; ".join(differs)
    assert_named(found, "differ", made.release)
    # That most of them were compared.
    assert len(made.said) > 150


def test_places_for_adapters_are_about_as_many(made: Made) -> None:
    found, compared = {}, 0
    for name, answer in made.said.items():
        own = read_checkpoint(made.home / name, answer.release)
        if answer.adapters is None or not own.weights.adapters.whole:
            continue
        compared += 1
        ratio = own.shape.adapters.elements(1) / answer.adapters.elements(1)
        if not LEAST < ratio < MOST:
            found[name] = f"{ratio:.2f} of vLLM's"
    assert_named(found, "adapters", made.release)
    assert compared > 80
