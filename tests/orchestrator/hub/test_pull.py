"""`ew models pull`, `show` and `rm`, against a hub on this machine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Result, Terminal
from tests.standins.hub import LARGE_BYTES, Fault, Hub, Repository, running_hub, sha256
from tests.waiting import eventually

REPO = "Team/Tiny-1B"
WEIGHTS = random.Random(1).randbytes(64 * 1024)
SMALL = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "README.md": b"hi"}
FILES = {**SMALL, "model.safetensors": WEIGHTS, "pytorch_model.bin": b"x" * 5000}
#: A program in which huggingface_hub itself reads the cache, without a hub.
FIND = "from huggingface_hub import snapshot_download as s; import sys; print(s(*sys.argv[1:]))"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repositories[REPO] = Repository(FILES)
        yield hub


@pytest.fixture
def terminal(host: Host, terminal: Terminal, hub: Hub, tmp_path: Path) -> Terminal:
    for name in [*terminal.environment]:
        if name.startswith(("HF_", "HUGGING", "XDG_CACHE", "http", "HTTP", "ALL_PROXY")):
            del terminal.environment[name]
    terminal.environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    terminal.configure(tiny={"engine": "cpu-vllm", "model_path": REPO}, local={})
    return terminal


def pulled(result: Result) -> Path:
    assert result.code == 0, result
    return Path(result.out.strip())


def find_offline(terminal: Terminal, *arguments: str) -> Path:
    environment = terminal.environment | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FIND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


def test_a_pulled_model_is_whole_and_where_libraries_look(terminal: Terminal, hub: Hub) -> None:
    result = terminal.run("models", "pull", REPO)
    directory = pulled(result)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        **SMALL,
        "model.safetensors": WEIGHTS,
    }
    assert "left out: 1 files that engines do not read" in result.err
    assert "model.safetensors is here" in result.err
    assert find_offline(terminal, REPO) == directory
    asked = len(hub.requests)
    again = terminal.run("models", "pull", REPO)
    assert pulled(again) == directory
    assert "0.0 MiB of" in again.err
    assert all("/resolve/" not in path for _, path, _ in hub.requests[asked:])


def test_a_model_is_pulled_by_its_name_and_at_a_revision(terminal: Terminal, hub: Hub) -> None:
    hub.repositories[REPO] = Repository(FILES, revisions=("main", "v1"))
    commit = hub.repositories[REPO].commit
    assert pulled(terminal.run("models", "pull", "tiny", "--revision", "v1")).name == commit
    shown = json.loads(terminal.run("models", "show", "tiny", "--json").out)
    assert (shown["repo"], shown["revisions"], shown["models"]) == (REPO, {"v1": commit}, ["tiny"])
    assert pulled(terminal.run("models", "pull", REPO, "--revision", commit)).name == commit
    everything = pulled(terminal.run("models", "pull", REPO, "--all"))
    assert (everything / "pytorch_model.bin").stat().st_size == 5000


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_connection_that_is_cut_goes_on_where_it_was(
    terminal: Terminal, hub: Hub, knows_ranges: bool
) -> None:
    hub.knows_ranges = knows_ranges
    hub.faults["model.safetensors"] = Fault(2, cut=20 * 1024)
    directory = pulled(terminal.run("models", "pull", REPO))
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS
    spans = hub.fetched(f"/{REPO}/model.safetensors")
    assert len(spans) == 3
    assert spans[0] == "bytes=0-"
    # Bytes on their way are lost with the connection.
    begins = [int(span.removeprefix("bytes=").rstrip("-")) for span in spans]
    assert 0 < begins[1] <= 20 * 1024
    assert begins[2] >= begins[1] if knows_ranges else begins[2] <= 20 * 1024


def test_a_hub_that_is_busy_is_asked_again(terminal: Terminal, hub: Hub) -> None:
    hub.faults["model.safetensors"] = Fault(2, status=503)
    result = terminal.run("models", "pull", REPO)
    assert (pulled(result) / "model.safetensors").read_bytes() == WEIGHTS
    assert "model.safetensors: the connection is lost" in result.err


def test_after_an_interruption_the_same_command_goes_on(terminal: Terminal, hub: Hub) -> None:
    hub.flows.clear()
    pull = terminal.spawn("models", "pull", REPO)
    pull.expect("model.safetensors")
    blobs = Path(terminal.environment["HF_HOME"]) / "hub/models--Team--Tiny-1B/blobs"
    partial = blobs / f"{sha256(WEIGHTS)}.ew.incomplete"
    eventually(lambda: partial.exists() and hub.fetched(f"/{REPO}/model.safetensors"))
    assert "is being fetched already" in terminal.run("models", "pull", REPO).err
    pull.kill(signal.SIGINT)
    hub.flows.set()
    pull.expect("interrupted; the same command goes on from here")
    pull.expect(pexpect.EOF)
    assert pull.wait() == 130
    # How much has come by then depends on the network's buffers.
    partial.write_bytes(WEIGHTS[:30_000])
    shown = terminal.run("models", "show", "tiny").out
    assert f"not complete: `./ew models pull {REPO}` goes on" in shown
    directory = pulled(terminal.run("models", "pull", REPO))
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched(f"/{REPO}/model.safetensors")[-1] == "bytes=30000-"


def test_parts_that_do_not_belong_together_are_noticed(terminal: Terminal, hub: Hub) -> None:
    blobs = Path(terminal.environment["HF_HOME"]) / "hub/models--Team--Tiny-1B/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(WEIGHTS)}.ew.incomplete").write_bytes(b"something else")
    wrong = terminal.run("models", "pull", REPO)
    assert wrong.code == 1
    assert "model.safetensors came in parts that do not belong together" in wrong.err
    assert pulled(terminal.run("models", "pull", REPO)).is_dir()


def test_each_refusal_is_one_line_with_its_next_step(terminal: Terminal, hub: Hub) -> None:
    hub.tokens |= {"hf_good", "hf_agreed"}
    hub.repositories["Team/Gated"] = Repository(FILES, gated=True, agreed=("hf_agreed",))
    hub.repositories["Team/Private"] = Repository(FILES, private=True, agreed=("hf_agreed",))

    def refused(repo: str, *options: str, **environment: str) -> str:
        result = terminal.run("models", "pull", repo, *options, **environment)
        assert (result.code, result.out) == (1, ""), result
        *_, error, hint = result.err.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        return f"{error}\n{hint}"

    assert "has no model Team/None that you may see" in refused("Team/None")
    assert "has no model Team/None" in refused("Team/None", HF_TOKEN="hf_good")
    assert "has no model Team/Private" in refused("Team/Private")
    assert "has no revision `v9`" in refused(REPO, "--revision", "v9")
    assert "refused the token" in refused(REPO, HF_TOKEN="hf_bad")
    for token in ("", "hf_good"):
        gated = refused("Team/Gated", HF_TOKEN=token)
        assert "Team/Gated is gated" in gated
        assert f"agree at {hub.url}/Team/Gated" in gated
    assert "cannot be reached" in refused(REPO, HF_ENDPOINT="http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE is set" in refused(REPO, HF_HUB_OFFLINE="1")
    assert "neither a model nor a repository" in refused("tinny")
    assert "did you mean `tiny`?" in refused("tinny")
    assert "model `local` is not from a hub" in refused("local")
    assert "no file is like *.gguf" in refused(REPO, "--include", "*.gguf")
    pulled(terminal.run("models", "pull", "Team/Gated", HF_TOKEN="hf_agreed"))


def test_the_token_and_the_mirror_may_be_in_the_configuration(
    terminal: Terminal, hub: Hub, tmp_path: Path
) -> None:
    hub.tokens.add("hf_agreed")
    hub.repositories[REPO] = Repository(FILES, gated=True, agreed=("hf_agreed",))
    del terminal.environment["HF_ENDPOINT"]
    config = json.loads(terminal.config.read_text())

    def pull(**hub_section: str) -> Result:
        config["hub"] = {"endpoint": hub.url, **hub_section}
        terminal.config.write_text(json.dumps(config))
        return terminal.run("models", "pull", REPO)

    secret = tmp_path / "token"
    assert f"`hub.token_file`: {secret}: No such file" in pull(token_file=str(secret)).err
    assert "the variable SECRET is not set" in pull(token_env="SECRET").err
    secret.write_text("hf_agreed\n")
    assert pull(token_file=str(secret)).code == 0
    assert terminal.run("models", "rm", REPO, "--yes").code == 0
    terminal.environment["SECRET"] = "hf_agreed"
    assert pull(token_env="SECRET").code == 0


def test_a_worker_reaches_the_hub_as_configured(
    terminal: Terminal, hub: Hub, tmp_path: Path
) -> None:
    del terminal.environment["HF_ENDPOINT"]
    terminal.configure(tiny={"model_path": REPO}, local={"model_path": "deploy/demo-model"})
    config = json.loads(terminal.config.read_text())
    config["hub"] = {"endpoint": hub.url, "token_file": str(tmp_path / "token")}
    terminal.config.write_text(json.dumps(config))
    assert "`hub.token_file`" in terminal.run("start").err
    (tmp_path / "token").write_text("hf_agreed")
    assert terminal.run("start").code == 0
    status = json.loads(terminal.run("status", "--json").out)
    variables = {}
    for model in status["models"]:
        environ = Path(f"/proc/{model['workers'][0]['pid']}/environ").read_text().split("\0")
        variables[model["id"]] = {line for line in environ if line.startswith("HF_")}
    assert {f"HF_ENDPOINT={hub.url}", "HF_TOKEN=hf_agreed"} <= variables["tiny"]
    assert "HF_TOKEN=hf_agreed" not in variables["local"]
    assert "hf_agreed" not in (terminal.state / "status.json").read_text()
    assert terminal.run("stop").code == 0


def test_a_disk_without_room_is_seen_before_anything_is_fetched(
    terminal: Terminal, hub: Hub
) -> None:
    size = 1 << 60
    program = (
        "import shutil, sys; real = shutil.disk_usage; "
        f"shutil.disk_usage = lambda path: real(path)._replace(free={600 * 2**20}); "
        "from orchestrator.hub import remote; look_up = remote.look_up; "
        "remote.look_up = lambda *a: (found := look_up(*a))._replace(files=tuple("
        f"each._replace(size_bytes={size}) for each in found.files)); "
        "from orchestrator.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "models", "pull", REPO],
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"error: {REPO} needs " in done.stderr
    assert "600 MiB free" in done.stderr
    assert all("/resolve/" not in path for _, path, _ in hub.requests)


def test_a_model_is_shown_and_removed(terminal: Terminal, hub: Hub) -> None:
    missing = terminal.run("models", "show", "tiny")
    assert (missing.code, f"`./ew models pull {REPO}`" in missing.err) == (1, True)
    directory = pulled(terminal.run("models", "pull", "tiny"))
    shown = terminal.run("models", "show", REPO).out
    assert shown.startswith(f"{REPO}: 0.1 MiB\n")
    assert "main" in shown
    assert "parsers   none is known for this checkpoint" in shown
    assert directory.name in shown
    assert "model.safetensors" in shown
    assert "models    tiny" in shown
    asking = terminal.spawn("models", "rm", "tiny")
    asking.expect(r"delete .* \[y/N\]")
    asking.sendline("n")
    asking.expect(pexpect.EOF)
    assert directory.is_dir()
    assert terminal.run("models", "rm", "tiny", "--yes").code == 0
    assert not directory.parents[1].exists()
    assert terminal.run("models", "rm", "tiny", "--yes").code == 1


def test_a_model_in_use_is_not_removed(terminal: Terminal, hub: Hub) -> None:
    terminal.configure(tiny={"model_path": REPO})
    pulled(terminal.run("models", "pull", "tiny"))
    assert terminal.run("start").code == 0
    refused = terminal.run("models", "rm", REPO, "--yes")
    assert refused.err == f"error: {REPO} is in use by `tiny`\nhint: `./ew stop tiny` first\n"
    assert terminal.run("stop").code == 0
    assert terminal.run("models", "rm", REPO, "--yes").code == 0


def test_of_several_ggufs_one_is_chosen(terminal: Terminal, hub: Hub) -> None:
    names = ["tiny-Q4_K_M.gguf", "tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"]
    hub.repositories[REPO] = Repository({**SMALL, **{name: name.encode() for name in names}})
    refused = terminal.run("models", "pull", REPO)
    assert refused.code == 1
    assert "several GGUF files" in refused.err
    directory = pulled(terminal.run("models", "pull", REPO, "--include", "*Q8_0*"))
    assert {path.name for path in directory.iterdir()} == {*SMALL, *names[1:]}


def test_a_terminal_shows_a_bar_for_each_file(terminal: Terminal, hub: Hub) -> None:
    hub.flows.clear()
    pull = terminal.spawn("models", "pull", REPO)
    pull.expect(r"model\.safetensors.*/65\.5|model\.safetensors.*/64\.0")
    hub.flows.set()
    pull.expect("100%|64.0/64.0")
    pull.expect(pexpect.EOF)
    assert pull.wait() == 0


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "T/x"}, "T/x"),
        ({"HUGGINGFACE_HUB_CACHE": "T/y"}, "T/y"),
        ({"HF_HOME": "T/home"}, "T/home/hub"),
        ({"XDG_CACHE_HOME": "T/xdg"}, "T/xdg/huggingface/hub"),
        ({"HOME": "T/user"}, "T/user/.cache/huggingface/hub"),
        ({"HF_HOME": "T/$NAME"}, "T/there/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(
    variables: dict[str, str], place: str, tmp_path: Path
) -> None:
    given = {name: value.replace("T", str(tmp_path), 1) for name, value in variables.items()}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NAME": "there", **given}
    program = (
        "from huggingface_hub.constants import HF_HUB_CACHE; "
        "from contract.model_files.hub_cache import cache_dir; print(HF_HUB_CACHE, cache_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [place.replace("T", str(tmp_path), 1)] * 2


def test_large_files_of_the_stand_in_are_large() -> None:
    assert len(WEIGHTS) >= LARGE_BYTES > max(map(len, SMALL.values()))
