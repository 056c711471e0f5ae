"""Make the pictures of the console in docs/images anew: the real gateway, with mock workers over
scripted GPUs, in a Chromium (Debian: `apt install chromium`).

    scripts/console-screenshots            # writes docs/images/console-*.png
    scripts/console-screenshots --out DIR  # elsewhere, to look at
    scripts/console-screenshots --time     # none: says how long the first view takes, from cold

Each has 256 colours and must have less than 150 KB. What is shown is the host of tests/console.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.console.conftest import ConsoleHost, browser_path, session_of
from tests.orchestrator.gpu_host import running
from tests.waiting import eventually

OUT: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
_MOST_BYTES: Final = 150_000
_WIDTH: Final = 1200
#: Of the host and its configuration, instead of those of the machine that makes the pictures.
_HOST_NAME, _FILE = "gpu1", "deploy/config.json"
_VIEWS_TIMED: Final = 9
#: In a page, the last thing that stands there.
_COMPLETE: Final = {"console": "article h3", "docs": ".opblock-summary"}
#: One comes every 10 s.
_SAMPLES: Final = 6
_QUESTION: Final = "What runs here?"


def main() -> int:
    """Make all. Return the exit code: 1 if one is too large."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    parser.add_argument("--time", action="store_true", help="time the first view instead")
    args = parser.parse_args()
    out: Path = args.out
    path = browser_path()
    if path is None:
        sys.exit("there is no Chromium (Debian: `apt install chromium`)")
    out.mkdir(parents=True, exist_ok=True)
    with running(ConsoleHost, EW_HOST_NAME=_HOST_NAME) as host, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        if args.time:
            _time_first_views(browser, host)
            return 0
        context = browser.new_context()
        context.add_cookies([session_of(host)])  # type: ignore[list-item]
        page = context.new_page()
        page.route("**/api/v1/admin/config/models", _under_its_usual_name)
        _be_busy(host)
        page.goto(host.url)
        sizes = [_take(page, name, show, out) for name, show in VIEWS.items()]
        browser.close()
    return 1 if max(sizes) >= _MOST_BYTES else 0


def _time_first_views(browser: Browser, host: ConsoleHost) -> None:
    """Say how long it takes, without a cache, until the models and GPUs stand there; and, to
    compare, until the API's documents do."""
    took: dict[str, list[float]] = {"console": [], "docs": []}
    for _ in range(_VIEWS_TIMED):
        for name, all_of in took.items():
            context = browser.new_context(extra_http_headers={"X-API-Key": host.key})
            context.add_cookies([session_of(host)])  # type: ignore[list-item]
            page = context.new_page()
            page.goto(f"{host.url}/{name}", wait_until="commit")
            page.locator(_COMPLETE[name]).first.wait_for()
            all_of.append(page.evaluate("performance.now()"))
            context.close()
    medians = {name: statistics.median(all_of) for name, all_of in took.items()}
    load = os.getloadavg()[0]
    print(f"first view: {medians['console']:.0f} ms; /docs: {medians['docs']:.0f} ms", end="")
    print(f"; ratio {medians['console'] / medians['docs']:.2f}; load average {load:.1f}")


def _under_its_usual_name(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "file": _FILE})


def _be_busy(host: ConsoleHost) -> None:
    """Load some models, have some answers, and wait for something to be drawn."""
    with host.client_of_operator() as client:
        for model in ("model-01", "model-02", "model-03"):
            client.post(f"/api/v1/admin/models/{model}/load", params={"wait": True})
        for model in ("chat", "model-01", "model-02", "chat"):
            body = {"modelId": model, "prompt": _QUESTION, "maxTokens": 60}
            client.post("/api/v1/inference", json=body).raise_for_status()
        history = "/api/v1/admin/history"
        eventually(lambda: len(client.get(history).json()["at_unix_s"]) >= _SAMPLES, 120)


def _now(page: Page) -> None:
    page.get_by_role("heading", name="GPUs").wait_for()
    page.locator("canvas").first.wait_for()


def _requests(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Requests").click()
    page.get_by_role("link", name="Trace of").first.click()
    page.get_by_role("group", name="Table of moments").get_by_role("row").nth(4).wait_for()


def _models(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Models").click()
    page.get_by_role("link", name="Entry of model-02").click()
    page.get_by_role("spinbutton", name="max_input_len").fill("4096")
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Nothing is wrong with it").wait_for()
    page.get_by_role("button", name="Check").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 0)")


def _playground(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Playground").click()
    page.get_by_label("Beside it").select_option("model-01")
    page.get_by_label("Most tokens").fill("40")
    page.get_by_label("Your question").fill(_QUESTION)
    page.get_by_role("button", name="Send").click()
    for model in ("chat", "model-01"):
        page.get_by_role("article", name=f"Answer of {model}").get_by_text("40 tokens").wait_for()


#: How each is come by, and its height.
VIEWS: Final[dict[str, tuple[Callable[[Page], None], int]]] = {
    "now": (_now, 1130),
    "requests": (_requests, 760),
    "models": (_models, 860),
    "playground": (_playground, 840),
}


def _take(page: Page, name: str, show: tuple[Callable[[Page], None], int], out: Path) -> int:
    """Write the picture of a view, and return its size."""
    view, height = show
    page.set_viewport_size({"width": _WIDTH, "height": height})
    view(page)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    path = out / f"console-{name}.png"
    picture.convert("RGB").quantize(256).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} KB" + ("" if size < _MOST_BYTES else ", too large"))
    return size


if __name__ == "__main__":
    sys.exit(main())
