"""A browser, and a host to look at: the real gateway, supervisor, Valkey and mock workers over
eight scripted GPUs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from contract.messages import Delta, Job
from orchestrator.system.valkey import embedded_url
from tests.gateway.scripted_worker import ScriptedWorker
from tests.orchestrator.gpu_host import CARD, GpuHost, running

WIDE, NARROW = {"width": 1920, "height": 1000}, {"width": 380, "height": 800}
#: Debian's; others are called otherwise.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: A model that no worker of this host runs: tests say its answers.
SCRIPTED = "scripted"


class ConsoleHost(GpuHost):
    """Fifteen models, of which one is always loaded, on eight GPUs; and an operator's key."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.show(*(CARD | {"uuid": f"GPU-{number}"} for number in range(8)))
        on_demand = {f"model-{number:02}": {"mib": 9000} for number in range(1, 15)}
        for settings in on_demand.values():
            settings["load"] = "on-demand"  # type: ignore[assignment]
        self.configure(chat={"mib": 30_000}, **on_demand)
        started = [*on_demand, "chat"]
        config = json.loads(self.terminal.config.read_text())
        config["models"][SCRIPTED] = {"engine": "mock", "model_path": "none"}
        self.terminal.config.write_text(json.dumps(config))
        assert self.start(*(word for name in started for word in ("--model", name))).code == 0
        self.key = self.run("keys", "add", "ops", "--admin").out.split()[-1]
        self.url = json.loads(self.run("status", "--json").out)["gateway"]["url"]

    def gateway_pids(self) -> list[int]:
        gateway = json.loads(self.run("status", "--json").out)["gateway"]
        return [gateway["pid"], *gateway["processes"]]

    def client_of_operator(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": self.key}, timeout=60)

    @contextmanager
    def answering(self, *answers: Delta) -> Iterator[list[Job]]:
        """Have the scripted model say these to the next questions, one to each; yields the jobs,
        as they come."""
        jobs: list[Job] = []
        thread = threading.Thread(target=lambda: asyncio.run(_answer_each(answers, jobs)))
        thread.start()
        yield jobs
        thread.join(20)


async def _answer_each(answers: tuple[Delta, ...], jobs: list[Job]) -> None:
    async with ScriptedWorker(embedded_url(), SCRIPTED) as worker:
        worker.takes_media = ("image",)
        for answer in answers:
            attempt = await worker.start()
            jobs.append(attempt.job)
            await worker.say(attempt, answer)
            await worker.done(attempt)


@pytest.fixture(scope="module")
def console_host() -> Iterator[ConsoleHost]:
    """One for all tests of the console; each leaves it as it was. It is gone before other tests
    begin, since it has the environment name its state."""
    with running(ConsoleHost) as host:
        yield host


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of the console. It is gone before other tests begin: Playwright has
    an event loop run in this thread for as long as it is there, and no other can."""
    path = browser_path()
    if path is None:
        pytest.skip("needs a Chromium (Debian: apt install chromium)")
    # Its sandbox needs what containers, and root, do not have.
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(console_host: ConsoleHost) -> dict[str, str]:
    """One for all tests."""
    return session_of(console_host)


def session_of(host: ConsoleHost) -> dict[str, str]:
    """Return the operator's session, as the page gets it when its form is sent."""
    address, headers = f"{host.url}/console/session", {"x-ew-console": "1"}
    answer = httpx.post(address, json={"key": host.key}, headers=headers)
    ((name, value),) = answer.cookies.items()
    return {"name": name, "value": value, "url": host.url}


def browser_path() -> str | None:
    """Return where the browser is."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@pytest.fixture
def page(browser: Browser, console_host: ConsoleHost, session: dict[str, str]) -> Iterator[Page]:
    """A page that is signed in, on a wide screen. Nothing may be complained of in its console."""
    context = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    context.add_cookies([session])  # type: ignore[list-item]
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if _is_bad(said.text) else None)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(console_host.url)
    page.get_by_role("heading", name="GPUs").wait_for()
    yield page
    context.close()
    assert not complaints


def _is_bad(said: str) -> bool:
    """Return whether a line of the console is a fault. An answer that was refused is none."""
    return "Content Security Policy" in said or "Error" in said


def show(page: Page, name: str) -> None:
    """Go to a page by its entry in the menu."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, level=1).wait_for()
