"""The console in a browser, over a real gateway."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import signal
import subprocess
import threading
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from contract.messages import TokenLogprob, ToolCallDelta
from orchestrator.client.gateway_client import read_events
from tests.console.conftest import NARROW, SCRIPTED, ConsoleHost, show
from tests.gateway.scripted_worker import delta
from tests.waiting import eventually

#: A PNG of one pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
PAGES = (
    "Now",
    "Requests",
    "Models",
    "Playground",
    "Batches",
    "Bench",
    "Usage",
    "Keys",
    "Audit",
    "Logs",
)
#: A text and the key Enter before the page has been rendered anew, as programs type.
PASTE_AND_SEND = """(box, text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", {bubbles: true}));
    box.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
}"""


def test_all_pages_are_for_everyone_and_fit_any_screen(page: Page) -> None:
    for name in PAGES:
        page.set_viewport_size({"width": 1920, "height": 1000})
        show(page, name)
        if name == "Usage":
            page.get_by_label("The last").select_option("7")
        if name in ("Now", "Models"):
            expect(page.get_by_text("model-14", exact=True).first).to_be_visible()
        if name == "Now":
            expect(page.get_by_role("article")).to_have_count(8)
        for size in (page.viewport_size, NARROW):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is wider than a screen of {size}"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = Axe().run(page)
            assert not found.violations_count, f"{name}, {scheme}: {found.generate_report()}"


def test_a_model_is_loaded_and_unloaded_and_the_page_tells(
    page: Page, console_host: ConsoleHost
) -> None:
    show(page, "Models")
    model = page.get_by_role("article", name="Model model-01")
    expect(model.locator(".state").first).to_have_text("stopped")
    model.get_by_role("button", name="Load").click()
    expect(model.locator(".state").first).to_have_text("ready")
    expect(model.get_by_role("img")).to_have_count(1)
    show(page, "Now")
    row = page.get_by_role("row", name="model-01")
    expect(row).to_contain_text("ready")
    with console_host.client_of_operator() as client:
        client.post("/api/v1/admin/models/model-01/unload")
    expect(row).to_contain_text("stopped")


def test_memory_is_estimated_before_a_load_and_a_download_says_why_it_fails(page: Page) -> None:
    show(page, "Models")
    model = page.get_by_role("article", name="Model model-02")
    model.get_by_role("button", name="Estimate").click()
    estimate = model.get_by_role("region", name="Estimate")
    expect(estimate).to_contain_text("Needs 8.8 GiB on one GPU.", timeout=30_000)
    bar = estimate.get_by_role("img")
    # With what loads of its like have shown on a GPU, if one was measured before.
    expect(bar).to_have_accessible_name(re.compile(r"model-02-0 would take (8\.8|9\.0) GiB of GPU"))
    expect(model.locator(".state").first).to_have_text("stopped")
    page.get_by_label("Repository or model").fill("nowhere")
    page.get_by_role("button", name="Download").click()
    download = page.get_by_role("listitem").filter(has_text="nowhere")
    expect(download).to_contain_text("failed", timeout=30_000)
    expect(download).to_contain_text("is neither a model nor a repository")


def test_an_entry_is_changed_and_one_is_added(page: Page, console_host: ConsoleHost) -> None:
    file = console_host.terminal.config
    before = file.read_text()
    show(page, "Models")
    page.get_by_role("link", name="Entry of model-03").click()
    form = page.get_by_role("region", name="The entry of model-03")
    replicas = form.get_by_role("spinbutton", name="replicas")
    replicas.fill("0")
    form.get_by_role("button", name="Check").click()
    refusal = "`models.model-03.replicas` is 0; it must be a whole number from 1 to 64"
    expect(form.get_by_role("status")).to_contain_text(refusal)
    expect(replicas).to_have_attribute("aria-invalid", "true")
    form.get_by_text("more keys").click()
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    replicas.fill("")
    form.get_by_role("textbox", name="aliases").fill("three, drei")
    form.get_by_role("spinbutton", name="max_input_len").fill("77")
    file.write_text(before + "\n")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status")).to_contain_text("has been changed since it was read")
    form.get_by_role("button", name="Read the file again").click()
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status")).to_contain_text("It is written.")
    written = json.loads(file.read_text())["models"]["model-03"]
    assert (written["aliases"], written["max_input_len"]) == (["three", "drei"], 77)
    assert "replicas" not in written
    card = page.get_by_role("article", name="Model model-03")
    expect(card).to_contain_text("Changed in its entry, until it is restarted: max_input_len")
    form.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Add a model").click()
    form = page.get_by_role("region", name="Add a model")
    form.get_by_role("textbox", name="name").fill("added")
    form.get_by_role("combobox", name="engine").select_option("mock")
    form.get_by_role("textbox", name="model_path").fill("none")
    form.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Start added").click()
    expect(page.get_by_role("article", name="Model added").locator(".state").first).to_have_text(
        "ready"
    )
    assert console_host.run("stop", "added").code == 0
    file.write_text(before)


def test_a_request_is_seen_and_cancelled(page: Page, console_host: ConsoleHost) -> None:
    ended: list[str] = []

    def ask() -> None:
        body = {"modelId": "chat", "prompt": "x", "maxTokens": 20_000}
        with (
            console_host.client() as client,
            client.stream("POST", "/api/v1/inference/stream", json=body) as answer,
        ):
            ended.extend(json.dumps(each) for each in read_events(answer.iter_lines()) if each.name)

    asking = threading.Thread(target=ask)
    asking.start()
    show(page, "Requests")
    row = page.get_by_role("region", name="Open").get_by_role("row").filter(has_text="streams")
    expect(row).to_contain_text("everything")
    row.get_by_role("button", name="Cancel").click()
    asking.join(15)
    assert "cancelled" in ended[-1]
    last = page.get_by_role("region", name="Ended").get_by_role("row").nth(1)
    expect(last).to_contain_text("cancelled")
    last.get_by_role("link", name="Trace of").click()
    trace = page.get_by_role("region", name="Trace of")
    moments = trace.get_by_role("group", name="Table of moments").get_by_role("row")
    expect(moments).to_have_count(6)
    expect(moments.nth(3)).to_contain_text("chat-0")
    expect(moments.last).to_contain_text("cancelled")
    change = trace.get_by_role("group", name="Table of changes").get_by_role("row").nth(1)
    expect(change).to_contain_text("ops")
    expect(change).to_contain_text("cancel job")
    job = page.url.rpartition("=")[2]
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    page.goto(f"{console_host.url}/console#/audit?text={job}")
    expect(page.get_by_role("group", name="Table of changes").get_by_role("row")).to_have_count(2)


def test_a_thousand_requests_are_listed_and_searched(page: Page) -> None:
    """The list itself is made up here; that the API tells it is tested elsewhere."""
    view = {
        "request_id": "r", "model": "chat", "key_id": "k", "key_name": "everything",
        "state": "streaming", "began_unix_s": time.time(), "position": 3, "attempts": 1,
        "tokens": 12, "queue_ms": 5, "first_token_ms": 20, "total_ms": 900, "error": "",
        "worker": "chat-0-abc",
    }  # fmt: skip
    views = [{**view, "job_id": f"job-{number}"} for number in range(1000)]
    body = json.dumps({"open": views, "ended": []})
    page.route("**/api/v1/admin/requests", lambda route: route.fulfill(body=body))
    show(page, "Requests")
    rows = page.get_by_role("region", name="Open").get_by_role("row")
    expect(rows).to_have_count(1001)
    page.get_by_label("Show only those with").fill("job-999")
    expect(rows).to_have_count(2)


def test_a_key_is_made_shown_once_and_revoked(page: Page, console_host: ConsoleHost) -> None:
    show(page, "Keys")
    page.get_by_label("Whose it is").fill("<b>guest</b>")
    page.get_by_role("button", name="Make a key").click()
    text = page.get_by_label("the new key", exact=True).inner_text()
    with console_host.client_of_operator() as client:
        client.headers["X-API-Key"] = text
        assert client.get("/v1/models").status_code == 200
        row = page.get_by_role("row", name="<b>guest</b>")
        expect(row).to_contain_text("live")
        row.get_by_role("button", name="Revoke").click()
        expect(row).to_contain_text("revoked")
        expect(page.get_by_label("the new key", exact=True)).to_have_count(0)
        eventually(lambda: client.get("/v1/models").status_code == 401)
    assert text not in page.content()


def test_a_key_is_limited_and_gets_a_new_secret(page: Page, console_host: ConsoleHost) -> None:
    show(page, "Keys")
    page.get_by_label("Whose it is").fill("lab")
    page.get_by_role("button", name="Make a key").click()
    new = page.get_by_label("the new key", exact=True)
    text = new.inner_text()
    page.get_by_role("button", name="Change lab").click()
    form = page.get_by_role("form", name="Change the key of lab")
    form.get_by_label("Owner").fill("Ada")
    form.get_by_label("requests per minute").fill("60")
    form.get_by_label("tokens per day").fill("none")
    assert Axe().run(page).violations_count == 0
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    row = page.get_by_role("row", name="lab").first
    for words in ("of Ada", "requests per minute: 60", "tokens per day: none"):
        expect(row).to_contain_text(words)
    page.get_by_role("button", name="Change lab").click()
    page.get_by_label("The present key ends").select_option(label="in an hour")
    page.get_by_role("button", name="Rotate").click()
    expect(new).not_to_have_text(text)
    for key in (text, new.inner_text()):
        with console_host.client() as client:
            client.headers["X-API-Key"] = key
            assert client.get("/api/v1/models").status_code == 200
    expect(page.get_by_role("row", name="lab").nth(1)).to_contain_text("ending")


def test_a_batch_is_seen_and_cancelled(page: Page, console_host: ConsoleHost) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 20_000}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    show(page, "Batches")
    with console_host.client() as client:
        content = {"file": ("in.jsonl", json.dumps(line).encode())}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=content).json()
        wanted = {"endpoint": line["url"], "completion_window": "1h", "input_file_id": file["id"]}
        client.post("/v1/batches", json=wanted)
    row = page.get_by_role("row").filter(has_text="everything")
    expect(row).to_contain_text("in progress")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("cancelled")
    page.get_by_label("Show only those with").fill("nothing like it")
    expect(row).to_have_count(0)
    assert "text=nothing" in page.url


def test_usage_is_shown_by_address_and_saved(page: Page, console_host: ConsoleHost) -> None:
    with console_host.client() as client:
        body = {"modelId": "chat", "prompt": "x", "maxTokens": 7}
        assert client.post("/api/v1/inference", json=body).status_code == 200
    page.goto(f"{console_host.url}/console#/usage?days=7")
    page.get_by_role("button", name="everything").click()
    assert "by=model" in page.url
    page.reload()
    row = page.get_by_role("row", name="chat")
    expect(row.get_by_role("cell").nth(0)).not_to_have_text("0")
    expect(page.get_by_role("img", name="Tokens by day")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("key,name,model,day,requests,errors,cancelled,prompt_tokens")
    assert all(",everything,chat," in each for each in lines[1:])


def test_a_bench_is_begun_drawn_and_compared(page: Page, console_host: ConsoleHost) -> None:
    """The figures are those of `ew bench`; that they are right is tested elsewhere."""
    show(page, "Bench")
    page.get_by_label("Answers at once").fill("1, 2")
    page.get_by_label("Seconds for each").fill("1")
    page.get_by_label("Tokens of an answer").fill("5")
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("chat is measured")).to_be_visible()
    drawn = page.get_by_role("img", name="Tokens per second. chat: 1, ")
    expect(drawn).to_be_visible(timeout=40_000)
    expect(page.get_by_text("chat is measured")).to_have_count(0, timeout=20_000)
    page.get_by_label("Seconds for each").fill("120")
    page.get_by_role("button", name="Measure").click()
    page.get_by_role("button", name="Cancel").click()
    kept = page.get_by_role("group", name="Table of measurements").get_by_role("row")
    expect(kept.nth(1)).to_contain_text("cancelled", timeout=20_000)
    kept.nth(2).get_by_role("checkbox").check()
    kept.nth(1).get_by_role("checkbox").uncheck()
    first = page.get_by_role("group", name="Table of figures").get_by_role("row")
    expect(first).to_have_count(3)
    page.reload()
    expect(first).to_have_count(3)


def test_what_a_model_says_stays_text(page: Page, console_host: ConsoleHost) -> None:
    show(page, "Playground")
    page.evaluate("window.broken = 0")
    page.get_by_role("combobox", name="Model", exact=True).select_option(SCRIPTED)
    evil = (
        "**bold** <img src=x onerror='window.broken=1'>"
        "<script>window.broken=1</script> [link](javascript:window.broken=1)"
        " ![pic](http://127.0.0.1:1/x.png)"
    )
    with console_host.answering(delta(evil)):
        page.get_by_label("Your question").fill("<i>x</i>")
        page.get_by_role("button", name="Send").click()
        answer = page.get_by_role("article", name=f"Answer of {SCRIPTED}")
        expect(answer.locator("strong")).to_have_text("bold")
    expect(answer).to_contain_text("<script>window.broken=1</script>")
    expect(answer).to_contain_text("onerror='window.broken=1'")
    assert answer.locator("img, script, [onerror]").count() == 0
    assert answer.locator("a[href^=javascript]").count() == 0
    assert page.locator(".question i").count() == 0
    answer.get_by_role("button", name="Markdown").click()
    expect(answer).to_contain_text("**bold**")
    assert page.evaluate("window.broken") == 0


def test_a_model_is_shown_images_and_calls_tools_and_its_tokens_have_logprobs(
    page: Page, console_host: ConsoleHost
) -> None:
    show(page, "Playground")
    page.get_by_role("combobox", name="Model", exact=True).select_option(SCRIPTED)
    page.get_by_label("Logprobs of tokens").check()
    tools = page.get_by_role("textbox", name="Tools")
    tools.fill("[")
    question = page.get_by_label("Your question")
    question.fill("what is this?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="Tools: this is no JSON")).to_be_visible()
    tools.fill(json.dumps([{"type": "function", "function": {"name": "look", "parameters": {}}}]))
    pixel = {"name": "pixel.png", "mimeType": "image/png", "buffer": base64.b64decode(PIXEL)}
    page.get_by_label("Images").set_input_files([pixel])  # type: ignore[list-item]
    page.get_by_role("button", name="pixel.png: take out").wait_for()
    question.fill("what is this?")
    called = ToolCallDelta("{}", b"", call=0, id="call_1", name="look")
    sure = TokenLogprob("red", math.log(0.4), (("red", math.log(0.4)), ("blue", math.log(0.5))))
    said = delta("red", logprobs=(sure,))
    with console_host.answering(called, said) as jobs:
        page.get_by_role("button", name="Send").click()
        answer = page.get_by_role("article", name=f"Answer of {SCRIPTED}")
        expect(answer.first).to_contain_text("calls look({})")
        answer.first.get_by_label("It returned").fill("a red pixel")
        answer.first.get_by_role("button", name="Send what it returned").click()
        expect(answer.last).to_contain_text("red")
    assert len(jobs[0].messages[0].media) == 1  # type: ignore[index]
    assert [turn.role for turn in jobs[1].messages or ()] == ["user", "assistant", "tool"]
    assert "a red pixel" in str(jobs[1].messages)
    answer.last.get_by_role("button", name="Tokens").click()
    token = answer.last.locator(".token")
    expect(token).to_have_class("token unsure")
    expect(token).to_have_attribute("title", '40.0 %; instead: "blue" 50.0 %')
    answer.last.get_by_text("The 1 least likely").click()
    expect(answer.last.get_by_role("row").last).to_contain_text('"blue" 50.0 %')
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()


def test_an_answer_is_taken_up_after_a_cut(page: Page) -> None:
    """A chat completion; that a background job goes on, a gateway's death shows below."""
    show(page, "Playground")
    page.get_by_label("Most tokens").fill("1000")
    page.get_by_label("Logprobs of tokens").check()
    question = page.get_by_label("Your question")
    question.evaluate(PASTE_AND_SEND, "count")
    answer = page.get_by_role("article", name="Answer of chat")
    expect(answer).to_contain_text("0 1 2 3")
    expect(question).to_have_value("")
    page.get_by_role("button", name="Cut the connection").click()
    expect(answer).to_contain_text("1000 tokens", timeout=30_000)
    expect(answer).to_contain_text("taken up again once")
    assert " ".join(map(str, range(1000))) in answer.inner_text()


def test_the_calls_that_are_shown_work(page: Page, console_host: ConsoleHost) -> None:
    show(page, "Playground")
    clients = page.get_by_role("group", name="Client").get_by_role("button")
    expect(clients.last).to_be_visible()
    texts = {}
    for client in clients.all():
        client.click()
        texts[client.inner_text()] = page.locator("pre[aria-label]").inner_text()
    assert all(console_host.url in text and "YOUR_KEY" in text for text in texts.values())
    assert texts.keys() >= {"LangChain", "Claude Code", "Codex", "Open WebUI", "JavaScript"}
    keyed = {name: text.replace("YOUR_KEY", console_host.api_key) for name, text in texts.items()}
    command = ["sh", "-c", keyed["curl"]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, "0 1 2" in ran.stdout) == (0, True), ran
    for name in ("Python", "LangChain"):
        compile(keyed[name], name, "exec")


def test_logs_are_followed(page: Page, console_host: ConsoleHost) -> None:
    show(page, "Logs")
    page.get_by_role("combobox").first.select_option("audit")
    with console_host.client_of_operator() as client:
        client.post("/api/v1/admin/models/nowhere/load")
    expect(page.get_by_role("log")).to_contain_text('"model":"nowhere"')
    assert "unit=audit" in page.url


def test_a_gateway_that_dies_is_told_of_and_answers_go_on(
    page: Page, console_host: ConsoleHost
) -> None:
    show(page, "Playground")
    page.get_by_label("Most tokens").fill("2000")
    page.get_by_label("Your question").fill("count")
    page.get_by_role("button", name="Send").click()
    answer = page.get_by_role("article", name="Answer of chat")
    expect(answer).to_contain_text("0 1 2 3")
    for pid in set(console_host.gateway_pids()):
        os.kill(pid, signal.SIGKILL)
    expect(page.get_by_text("Not up to date")).to_be_visible()
    expect(page.get_by_text("Not up to date")).to_have_count(0, timeout=30_000)
    expect(answer).to_contain_text("2000 tokens", timeout=30_000)
    expect(answer).to_contain_text("taken up again")
    assert " ".join(map(str, range(2000))) in answer.inner_text()
    show(page, "Now")
    expect(page.get_by_role("row", name="chat")).to_contain_text("ready")


def test_who_signs_out_sees_nothing_more(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    page.reload()
    page.get_by_label("API key").wait_for()
    assert "chat" not in page.content()


def test_another_key_sees_the_playground_alone(browser: Browser, console_host: ConsoleHost) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(console_host.url)
    page.get_by_label("API key").fill(console_host._key.text)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Playground").wait_for()
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == [
        "Playground",
        "Usage",
    ]
    page.goto(f"{console_host.url}/console#/keys")
    page.get_by_role("heading", name="Playground").wait_for()
    context.close()


def test_what_is_wrong_is_an_alert_with_its_next_step(page: Page) -> None:
    """Over a status that is made up: that the supervisor tells it is tested elsewhere."""
    status = {
        "supervisor": {"alive": True},
        "gateway": {"problem": {"message": "its port is taken", "hint": "free it"}},
        "redis": {"state": "ready", "append_only_file": False},
        "models": [],
        "gpus": [
            {"index": 0, "problem": "it fell off the bus", "temperature_c": None},
            {"index": 1, "problem": "", "temperature_c": 95},
        ],
        "gpu_problem": "",
        "host_problem": "",
        "keys_problem": "`front-2` shared its own",
        "config": {"waiting": ["models.chat.dtype"], "problem": ""},
    }
    script = "status => import('/console/alerts.js').then(({alertsOf}) => alertsOf(status))"
    alerts = page.evaluate(script, status)
    assert [(each["level"], each["text"]) for each in alerts] == [
        ("bad", "The gateway: its port is taken"),
        ("bad", "This host does not share API keys as it should: `front-2` shared its own"),
        ("bad", "GPU 0 cannot be used: it fell off the bus"),
        (
            "warn",
            "The queue's server keeps no append-only file: if it dies, jobs and answers are lost",
        ),
        ("warn", "GPU 1 has 95 °C"),
        ("warn", "Changes of the configuration wait for a restart: models.chat.dtype"),
    ]
    assert all(each["next"] for each in alerts)
    gpu = page.get_by_role("article", name="GPU 0")
    expect(gpu.locator("figcaption")).to_contain_text("utilisation")


def test_plots_are_drawn_anew_when_the_system_goes_dark(page: Page) -> None:
    show(page, "Now")
    page.emulate_media(color_scheme="light")
    page.locator("canvas").first.wait_for()
    page.evaluate("document.querySelector('canvas').isOfTheDay = true")
    page.emulate_media(color_scheme="dark")
    is_of_the_day = "document.querySelector('canvas')?.isOfTheDay"
    eventually(lambda: page.evaluate(is_of_the_day) is None)
