"""The commands of the documentation, run as they stand, page by page, over a real ew with scripted
models. What is put in the place of names that only a reader has is in `_IN_PLACE`, all of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from contract.process.ports import free_port
from tests.documented import PAGES, blocks_of, table_of
from tests.running_ew import ROOT, Ew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
#: Pages with a command that is run.
_RUN: Final = [page for page in PAGES if any(not each.why_not for each in blocks_of(page))]
_MOCK: Final = {"engine": "mock", "model_path": "none"}
_CONFIG: Final = {
    "models": {"demo": _MOCK, "qwen": {**_MOCK, "load": "on-demand"}},
    "gateway": {"processes": 1},
}
_LINE: Final = {
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "demo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3},
}


class Reader:
    """Somebody at a shell in the directory of a project, who has an operator's key in `$KEY`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ew = Ew(home / "state", free_port())
        (home / "config.json").write_text(json.dumps(_CONFIG))
        (home / "etc").mkdir()
        self.ew.environment["EW_CONFIG"] = str(home / "config.json")
        self._script("ew", f'exec {ROOT / "ew"} "$@"')
        # An answer that is an error is to end the command with one.
        self._script("bin/curl", 'exec /usr/bin/curl --fail-with-body -sS "$@"')
        requests = (json.dumps({"custom_id": str(number), **_LINE}) for number in range(2))
        (home / "requests.jsonl").write_text("".join(f"{line}\n" for line in requests))
        self._variables = home / "variables"
        self._job = ""

    def start(self) -> None:
        started = self.ew.run("start")
        assert started.returncode == 0, started.stderr
        key = self.ew.run("keys", "add", "reader", "--admin", "--model", "*").stdout.strip()
        self.ew.environment |= {"KEY": key, "PATH": f"{self.home}/bin:{os.environ['PATH']}"}

    def type(self, command: str) -> str:
        """Run a command in the shell and return what it prints. It must end well."""
        meant = self._meant(command)
        script = f"{meant}\ncode=$?; export -p > {self._variables}; exit $code"
        if self._variables.exists():
            script = f". {self._variables}\n{script}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env=self.ew.environment,
            capture_output=True,
            text=True,
            input="What is ew?\n",
            timeout=120,
            check=False,
        )
        said = f"$ {meant}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        assert done.returncode == 0, said
        if made := re.search(r'"id": ?"(job_\w+)"', done.stdout):
            self._job = made[1]
        return done.stdout

    def revision(self) -> str:
        url = f"{self.ew.url}/api/v1/admin/config/models"
        answer: dict[str, Any] = httpx.get(
            url, headers={"X-API-Key": self.ew.environment["KEY"]}
        ).json()
        return str(answer["revision"])

    def job(self) -> str:
        assert self._job, "no job was made on this page before"
        return self._job

    def other_project(self) -> str:
        """Return the variables by which a command is about a host where nothing was done yet."""
        other = tempfile.mkdtemp(dir=self.home)
        return f"EW_STATE_DIR={other}/state EW_CONFIG={other}/config.json ./ew"

    def _meant(self, command: str) -> str:
        for written, meant in _IN_PLACE.items():
            if written in command:
                command = command.replace(written, meant(self))
        return command

    def _script(self, name: str, line: str) -> None:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


#: The texts of the pages, and those that are run in their place.
_IN_PLACE: Final[dict[str, Callable[[Reader], str]]] = {
    "http://127.0.0.1:8080": lambda reader: reader.ew.url,
    "https://gpu1.example:8080": lambda reader: reader.ew.url,
    "EW_API_KEY=...": lambda reader: f"EW_API_KEY={shlex.quote(reader.ew.environment['KEY'])}",
    "3f1c0d9a52b7e864": Reader.revision,
    "job_4f1c...": Reader.job,
    "ce1872c76ac8458fad588d77bcdd5c10": Reader.job,
    "/etc/ew/": lambda reader: f"{reader.home}/etc/",
    "git pull": lambda _: ":",
    "./ew restore": lambda reader: f"{reader.other_project()} restore",
}


#: Of README's table, those that are not run, and why.
_NOT_RUN: Final = {
    "./ew stop": "the others need what it ends; the fixture's end does it",
    "./ew start --engine cuda-trt": "needs a GPU",
    "./ew convert-trt --model ... --output ...": "needs a GPU",
    "./ew setup --engine cuda-vllm": "downloads some GiB",
    "./ew models pull ORG/REPO": "downloads a model",
    "./ew estimate ORG/REPO": "asks a hub",
    "./ew estimate llama": "a scripted model has no files",
    "./ew bench demo": "takes minutes; tests/orchestrator/benchmark has it",
    "./ew compare demo other": "takes minutes; tests/orchestrator/benchmark has it",
    "./ew dead show ID": "no request has broken a worker; tests/orchestrator has it",
    "./ew service install --now": "needs a running systemd",
    "./ew --install-completion": "changes the reader's shell",
    "./ew doctor": "judges the machine, which may lack something",
}
#: In that table alone.
_IN_TABLE: Final = {
    "llama": "qwen",
    " ID": " job_4f1c...",
    "JOB": "job_4f1c...",
    "FILE": "everything.tar.gz",
    "gateway -f": "gateway -f & follower=$!; sleep 3; kill $follower",
}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with tempfile.TemporaryDirectory(prefix="ew-") as home:
        reader = Reader(Path(home))
        try:
            reader.start()
            yield reader
        finally:
            reader.ew.run("stop", "--now")
            for process in reader.ew.processes():
                process.kill()


def test_the_commands_of_every_day(reader: Reader) -> None:
    table = table_of(Path("README.md"), "Everyday use")
    assert set(_NOT_RUN) <= set(table)
    reader.type("export EW_API_KEY=...")
    body = '{"modelId": "demo", "prompt": "x", "maxTokens": 4000}'
    job = f"curl http://127.0.0.1:8080/api/v1/jobs -H X-API-Key:$KEY -d '{body}'"
    for command in table:
        if command not in _NOT_RUN:
            for written, meant in _IN_TABLE.items():
                command = command.replace(written, meant)
            if command.startswith("./ew jobs cancel"):
                reader.type(job)
            reader.type(command)
            if command == "./ew stop demo":
                reader.type("./ew start demo")
    reader.type("./ew keys anonymous --off")


@pytest.mark.parametrize("page", _RUN, ids=str)
def test_the_commands_of_a_page_do_what_it_says(reader: Reader, page: Path) -> None:
    for block in blocks_of(page):
        if not block.why_not:
            for command in block.commands:
                reader.type(command)


def test_a_command_that_fails_is_seen(reader: Reader) -> None:
    for wrong, said in (("./ew keys limit nobody", "no live key"), ("curl $NOWHERE", "curl: ")):
        with pytest.raises(AssertionError, match=said):
            reader.type(wrong)
    with pytest.raises(AssertionError, match="401"):
        reader.type("curl http://127.0.0.1:8080/api/v1/models")


def test_everything_that_is_replaced_stands_on_a_page() -> None:
    typed = "\n".join(
        command for page in _RUN for block in blocks_of(page) for command in block.commands
    )
    assert [written for written in _IN_PLACE if written not in typed] == []
