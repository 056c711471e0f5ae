"""The conversion script by itself, as users run it in the environment of TensorRT-LLM (which is
a stand-in here)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.paths import ROOT
from tests.engines.contract.engines import MODEL_DIR, vllm_python, write_adapter
from tests.standins import trtllm

Convert = Callable[..., "subprocess.CompletedProcess[str]"]
SMALL = ("--max-batch-size=4", "--max-input-len=256", "--max-output-len=64")
SCRIPT = ROOT / "scripts" / "convert_trt.py"


def needs_engine(test: Any) -> Any:
    """Runs in the environment with torch, and takes its time on a busy machine."""
    return pytest.mark.vllm(pytest.mark.timeout(240)(test))


@pytest.fixture
def convert() -> Convert:
    """Convert the demo model with a release of the stand-in."""

    def run(
        *arguments: str, release: str = "1.2.1", model: str = str(MODEL_DIR), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        words = (f"--model={model}", *SMALL, *arguments)
        return trtllm.convert(vllm_python(), release, *words, **variables)

    return run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Make files that look like a checkpoint until they are loaded."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(bytes(2_000_000))
    return path


def early(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return a run that ends before anything but the standard library is needed."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("given", "accepted"),
    [("qwen", True), ("qwen2", True), ("Qwen2", True), ("llama", False), ("yi", False)],
)
def test_a_model_type_is_checked_and_a_wrong_one_is_told_the_right_one(
    checkpoint: Path, tmp_path: Path, given: str, accepted: bool
) -> None:
    run = early(f"--model={checkpoint}", f"--output={tmp_path / 'plan'}", f"--model-type={given}")
    assert run.returncode != 0
    assert ("--model-type qwen" not in run.stderr) == accepted


def test_yi_is_a_llama(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    run = early(f"--model={checkpoint}", f"--output={tmp_path / 'plan'}", "--model-type=yi")
    assert "is a `llama` model" not in run.stderr


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model, expected in (
        (str(tmp_path / "nowhere"), "no checkpoint at"),
        (str(tmp_path / "empty"), "has no config.json"),
    ):
        run = early(f"--model={model}", f"--output={tmp_path / 'plan'}")
        assert run.returncode == 1
        assert expected in run.stderr
        assert "hint: " in run.stderr


def test_a_wrong_argument_is_the_users_to_fix(tmp_path: Path) -> None:
    for wrong in ("--dtype=int3", "--tp-size=0", "--quantization=q4_k_m", "--max-input=4"):
        run = early("--model=x/y", wrong)
        assert run.returncode == 1
        assert "error: " in run.stderr


@needs_engine
def test_a_repository_that_cannot_be_reached_says_what_to_do(tmp_path: Path) -> None:
    run = trtllm.convert(
        vllm_python(), "1.2.1", "--model=nobody/nothing", f"--output={tmp_path / 'plan'}"
    )
    assert run.returncode == 1
    assert "nobody/nothing cannot be downloaded" in run.stderr
    assert "HF_TOKEN" in run.stderr


class Made(NamedTuple):
    """A conversion that has succeeded."""

    home: Path
    plan: Path
    said: str

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.plan / "ew_manifest.json").read_text())
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A plan, built once and then only looked at."""
    home = tmp_path_factory.mktemp("converted")
    words = (f"--model={MODEL_DIR}", f"--output={home / 'plan'}", *SMALL)
    run = trtllm.convert(vllm_python(), "1.2.1", *words)
    assert run.returncode == 0, run.stderr
    return Made(home, home / "plan", run.stderr)


@needs_engine
def test_the_stages_are_told_with_their_times_after_an_estimate(made: Made) -> None:
    assert made.said.index("estimate: weights") < made.said.index("building the plan ...")
    assert "building the plan: 0:" in made.said
    assert "made the plan" in made.said


@needs_engine
def test_the_directory_has_all_that_serving_needs(made: Made) -> None:
    needed = {"config.json", "rank0.engine", "tokenizer.json", "tokenizer_config.json"}
    assert needed | {"generation_config.json", "ew_manifest.json"} <= files_in(made.plan)
    assert not list(made.plan.glob("*.safetensors"))


@needs_engine
def test_the_manifest_tells_of_what_and_for_what_it_was_built(made: Made) -> None:
    manifest = made.manifest()
    assert manifest["source"]["model"] == str(MODEL_DIR)
    assert manifest["gpu"] == {"name": "Stand-in GPU", "compute_capability": "9.0"}
    assert manifest["versions"]["tensorrt_llm"] == "1.2.1"
    assert manifest["versions"]["tensorrt"]
    assert manifest["arguments"]["max_input_len"] == 256
    assert manifest["arguments"]["dtype"] == "float16"
    for name, facts in manifest["files"].items():
        content = (made.plan / name).read_bytes()
        assert facts["bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


@needs_engine
def test_the_log_is_kept_and_nothing_else(made: Made) -> None:
    assert "Building TRT-LLM engine" in (made.home / "plan.log").read_text()
    assert files_in(made.home) == {"plan", "plan.log"}


@pytest.fixture
def plan(made: Made, tmp_path: Path) -> Path:
    """A copy to convert over."""
    shutil.copytree(made.plan, tmp_path / "plan")
    return tmp_path / "plan"


@needs_engine
def test_the_same_again_does_nothing(convert: Convert, plan: Path) -> None:
    before = (plan / "rank0.engine").stat().st_mtime_ns
    again = convert(f"--output={plan}")
    assert again.returncode == 0
    assert "up to date" in again.stderr
    assert (plan / "rank0.engine").stat().st_mtime_ns == before


@needs_engine
@pytest.mark.parametrize(
    ("flag", "variables", "difference"),
    [
        ("--max-batch-size=8", {}, "max-batch-size 4 -> 8"),
        ("--dtype=float16", {"PYNVML_STANDIN_CAPABILITY": "8.6"}, "compute_capability 9.0 -> 8.6"),
    ],
)
def test_something_else_in_its_place_needs_force_and_says_what_differs(
    convert: Convert, plan: Path, flag: str, variables: dict[str, str], difference: str
) -> None:
    other = convert(f"--output={plan}", flag, **variables)
    assert other.returncode == 1
    assert difference in other.stderr
    assert "--force" in other.stderr


@needs_engine
def test_a_failure_leaves_the_old_plan_and_force_replaces_it(convert: Convert, plan: Path) -> None:
    old = (plan / "ew_manifest.json").read_text()
    failed = convert(f"--output={plan}", "--force", "--quantization=fp8")
    assert failed.returncode == 1
    assert "--calib-data" in failed.stderr
    assert (plan / "ew_manifest.json").read_text() == old
    texts = plan.with_name("texts")
    texts.mkdir()
    quantised = ("--quantization=fp8", "--kv-cache-dtype=fp8", f"--calib-data={texts}")
    replaced = convert(f"--output={plan}", "--force", *quantised)
    assert replaced.returncode == 0, replaced.stderr
    built = json.loads((plan / "config.json").read_text())["pretrained_config"]["quantization"]
    assert built == {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    assert files_in(plan.parent) == {"plan", "plan.log", "texts"}


@needs_engine
def test_a_directory_that_is_not_ours_is_never_replaced(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    run = convert(f"--output={tmp_path / 'mine'}", "--force")
    assert run.returncode == 1
    assert "was not made by a conversion" in run.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@needs_engine
def test_a_dry_run_only_tells(convert: Convert, tmp_path: Path) -> None:
    run = convert(f"--output={tmp_path / 'plan'}", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "estimate: " in run.stderr
    assert files_in(tmp_path) == {"plan.log"}


@needs_engine
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PYNVML_STANDIN_MIB": "300"}, "has 0.3 GiB in all"),
        ({"PYNVML_STANDIN_USED_MIB": "81900"}, "free of 80.0 GiB"),
        ({"PYNVML_STANDIN_GPUS": "0"}, "no NVIDIA GPU is seen"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_begun(
    convert: Convert, tmp_path: Path, variables: dict[str, str], expected: str
) -> None:
    run = convert(f"--output={tmp_path / 'plan'}", **variables)
    assert run.returncode == 1
    assert expected in run.stderr
    assert "building" not in run.stderr


@needs_engine
def test_more_gpus_than_there_are_is_refused(convert: Convert, tmp_path: Path) -> None:
    run = convert(f"--output={tmp_path / 'plan'}", "--tp-size=2")
    assert run.returncode == 1
    assert "this host has 1 GPU" in run.stderr


@needs_engine
def test_two_gpus_get_a_rank_each(convert: Convert, tmp_path: Path) -> None:
    run = convert(f"--output={tmp_path / 'plan'}", "--tp-size=2", PYNVML_STANDIN_GPUS="2")
    assert run.returncode == 0, run.stderr
    assert {"rank0.engine", "rank1.engine"} <= files_in(tmp_path / "plan")


@needs_engine
def test_an_old_release_builds_a_plan_with_adapters_and_beams(
    convert: Convert, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    run = convert(
        f"--output={tmp_path / 'plan'}", f"--lora={adapter}", "--max-beam-width=2",
        release="0.21.0",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    built = json.loads((tmp_path / "plan" / "config.json").read_text())["build_config"]
    assert built["plugin_config"]["lora_plugin"] == "auto"
    assert built["max_beam_width"] == 2


@needs_engine
def test_an_architecture_that_the_release_does_not_know_is_refused(
    convert: Convert, tmp_path: Path, checkpoint: Path
) -> None:
    config = {"model_type": "mamba9", "architectures": ["Mamba9ForCausalLM"]}
    (checkpoint / "config.json").write_text(json.dumps(config))
    run = convert(f"--output={tmp_path / 'plan'}", model=str(checkpoint))
    assert run.returncode == 1
    assert "does not know the architecture `Mamba9ForCausalLM`" in run.stderr


@needs_engine
def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    arguments = [f"--model={MODEL_DIR}", f"--output={tmp_path / 'plan'}", *SMALL]
    environment = trtllm.environment("1.2.1", TENSORRT_LLM_STANDIN_BUILD_S="60")
    run = subprocess.Popen(
        [vllm_python(), str(SCRIPT), *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    log = tmp_path / "plan.log"
    while not (log.exists() and "Building TRT-LLM engine" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130, said
    assert files_in(tmp_path) == {"plan.log"}
    assert not _running_with(str(tmp_path))


@needs_engine
def test_a_repository_in_the_cache_needs_no_network_and_its_revision_is_kept(
    convert: Convert, tmp_path: Path
) -> None:
    home = tmp_path / "hub"
    revision = trtllm.cache_model(home, "Qwen/Qwen2.5-7B-Instruct", MODEL_DIR)
    run = convert(
        f"--output={tmp_path / 'plan'}", model="Qwen/Qwen2.5-7B-Instruct", HF_HUB_CACHE=str(home)
    )
    assert run.returncode == 0, run.stderr
    source = json.loads((tmp_path / "plan" / "ew_manifest.json").read_text())["source"]
    assert (source["model"], source["revision"]) == ("Qwen/Qwen2.5-7B-Instruct", revision)


@needs_engine
def test_a_release_without_plans_explains_and_takes_the_checkpoint_over(
    convert: Convert, tmp_path: Path
) -> None:
    run = convert(f"--output={tmp_path / 'made'}", release="1.3.0rc29")
    assert run.returncode == 0, run.stderr
    assert "TensorRT-LLM 1.3.0rc29 cannot build plans" in run.stderr
    assert "made the checkpoint" in run.stderr
    weights = "model.safetensors"
    assert (tmp_path / "made" / weights).read_bytes() == (MODEL_DIR / weights).read_bytes()
    again = convert(f"--output={tmp_path / 'made'}", "--max-batch-size=8", release="1.3.0rc29")
    assert "up to date" in again.stderr


@needs_engine
def test_a_release_without_plans_quantises_with_modelopt(convert: Convert, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one text\n\nand another\n")
    flags = ("--quantization=fp8", f"--calib-data={texts}")
    run = convert(f"--output={tmp_path / 'made'}", *flags, release="1.4.0rc1")
    assert run.returncode == 0, run.stderr
    exported = json.loads((tmp_path / "made" / "hf_quant_config.json").read_text())
    assert exported["quantization"]["quant_algo"] == "FP8"
    assert exported["calibrated_on"] == 2
    assert {"tokenizer.json", "generation_config.json"} <= files_in(tmp_path / "made")


@needs_engine
@pytest.mark.parametrize("flag", ["--quantization=int8_sq", "--kv-cache-dtype=int8"])
def test_what_only_plans_have_is_refused_without_them(
    convert: Convert, tmp_path: Path, flag: str
) -> None:
    run = convert(f"--output={tmp_path / 'made'}", flag, release="1.4.0rc1")
    assert run.returncode == 1
    assert not (tmp_path / "made").exists()


def _running_with(text: str) -> list[str]:
    """Return the command lines that name this text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
