"""From `./ew quickstart` to `./ew stop`, with a real vLLM on the CPU."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import psutil
import pytest
import redis

from tests.running_ew import Question, Quickstarted, questions, wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

QUESTIONS = questions()
LONGEST = max(QUESTIONS, key=lambda question: len(question.answer))
WHAT_IS_EW = next(question for question in QUESTIONS if question.text == "What is ew?")


def ask(run: Quickstarted, question: Question, **headers: str) -> Iterator[dict[str, str]]:
    """The events of a native streaming answer, each with `event`, `id` and `data`."""
    body = {"modelId": "demo", "prompt": question.text, "temperature": 0}
    with (
        run.client() as client,
        client.stream("POST", "/api/v1/inference/stream", json=body, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        event: dict[str, str] = {}
        for line in response.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                yield event
                event = {}


def joined(events: list[dict[str, str]]) -> str:
    return "".join(json.loads(event["data"])["text"] for event in events if "event" not in event)


def assert_whole(events: list[dict[str, str]], question: Question) -> None:
    """The exact answer, with no event missing or twice, and its end."""
    assert joined(events) == question.answer
    assert events[-1]["event"] == "done"
    ids = [int(event["id"].partition("-")[0]) for event in events if "event" not in event]
    assert ids == list(range(len(ids)))


def worker_of(run: Quickstarted) -> psutil.Process:
    (model,) = [model for model in run.ew.status()["models"] if model["id"] == "demo"]
    return psutil.Process(model["workers"][0]["pid"])


def running_jobs(run: Quickstarted) -> int:
    (model,) = [model for model in run.ew.status()["models"] if model["id"] == "demo"]
    return int(model["running"])


def states_of_jobs(run: Quickstarted) -> set[str]:
    """Return the states of the jobs that Valkey still knows."""
    valkey = psutil.Process(run.ew.status()["redis"]["pid"])
    socket = next(each.laddr for each in valkey.net_connections("unix") if each.laddr)
    with redis.Redis(unix_socket_path=socket, decode_responses=True) as client:
        keys = client.scan_iter("ew:{demo}:job:*")
        return {client.hget(key, "state") or "" for key in keys}


def test_quickstart_streams_the_answer_into_the_terminal(quickstarted: Quickstarted) -> None:
    assert WHAT_IS_EW.answer in quickstarted.text.replace("\n", " ")


def test_the_printed_curl_line_works_when_pasted(quickstarted: Quickstarted) -> None:
    answer = subprocess.run(quickstarted.curl, capture_output=True, text=True, timeout=60)
    assert "event: done" in answer.stdout
    assert answer.returncode == 0


def test_greedy_answers_are_exact(quickstarted: Quickstarted) -> None:
    for question in QUESTIONS:
        assert_whole(list(ask(quickstarted, question)), question)


def test_the_official_openai_client_works_unchanged(quickstarted: Quickstarted) -> None:
    with openai.OpenAI(base_url=f"{quickstarted.ew.url}/v1", api_key=quickstarted.key) as client:
        messages: Any = [{"role": "user", "content": WHAT_IS_EW.text}]
        chunks = client.chat.completions.create(
            model="demo", messages=messages, temperature=0, stream=True
        )
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        whole = client.chat.completions.create(model="demo", messages=messages, temperature=0)
    assert streamed == whole.choices[0].message.content == WHAT_IS_EW.answer
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0


def test_a_second_quickstart_restarts_nothing(quickstarted: Quickstarted) -> None:
    before = worker_of(quickstarted).pid
    text = quickstarted.ew.in_terminal("quickstart")
    assert worker_of(quickstarted).pid == before
    assert WHAT_IS_EW.answer in text.replace("\n", " ")


def test_status_shows_gateway_valkey_and_worker(quickstarted: Quickstarted) -> None:
    status = quickstarted.ew.status()
    (model,) = status["models"]
    (worker,) = model["workers"]
    assert model["state"] == worker["state"] == "ready"
    assert (worker["engine"], worker["env"]) == ("cpu-vllm", "ew-cpu-vllm")
    assert worker["version"].startswith("0.")
    assert status["gateway"]["state"] == status["redis"]["state"] == "ready"
    text = quickstarted.ew.in_terminal("status")
    for word in ("gateway", "valkey", "demo", "ready", "cpu-vllm"):
        assert word in text.lower()


def test_the_demo_model_runs_in_no_more_processes_than_it_asks_for(
    quickstarted: Quickstarted,
) -> None:
    """`"distributed_executor_backend": "uni"`: the engine core is the one that computes."""
    names = [child.name() for child in worker_of(quickstarted).children(recursive=True)]
    assert any("Engine" in name for name in names), names
    assert not any("Worker" in name for name in names), names


def test_a_client_that_leaves_stops_the_engine(quickstarted: Quickstarted) -> None:
    assert "cancelled" not in states_of_jobs(quickstarted)
    events = ask(quickstarted, LONGEST)
    next(events)
    events.close()  # type: ignore[attr-defined]
    wait_for(lambda: "cancelled" in states_of_jobs(quickstarted), 10, "the job to be cancelled")
    wait_for(lambda: running_jobs(quickstarted) == 0, 10, "the engine to be free again")


def test_an_answer_survives_the_death_of_valkey(quickstarted: Quickstarted) -> None:
    valkey = psutil.Process(quickstarted.ew.status()["redis"]["pid"])
    events = ask(quickstarted, LONGEST)
    seen = [next(events)]
    valkey.kill()
    seen += list(events)
    assert not valkey.is_running()
    assert_whole(seen, LONGEST)


def test_an_answer_survives_the_death_of_its_worker(quickstarted: Quickstarted) -> None:
    worker = worker_of(quickstarted)
    events = ask(quickstarted, LONGEST, **{"X-Request-Id": "killed-beneath"})
    seen = [next(events)]
    worker.kill()
    seen += list(events)
    assert worker_of(quickstarted).pid != worker.pid
    assert_whole(seen, LONGEST)
    assert_traced(quickstarted, "killed-beneath")


_GOES_ON = ("first_token", 2)


def assert_traced(run: Quickstarted, request: str) -> None:
    """`./ew trace` tells of both workers, and that the first was killed."""
    told = run.ew.run("trace", request, "--json")
    assert told.returncode == 0, told.stderr
    life = json.loads(told.stdout)
    assert (life["request_id"], life["model"], life["state"]) == (request, "demo", "done")
    moments = life["moments"]
    # When the second goes on is known only while the reply stream has all of it.
    moments = [each for each in moments if (each["what"], each.get("attempt")) != _GOES_ON]
    whats = [each["what"] for each in moments]
    lives = ["accepted", "queued", "claimed", "first_token", "lost", "claimed", "done"]
    assert whats == lives
    times = [each["at_ms"] for each in moments]
    assert times[:4] == sorted(times[:4])
    assert times[4:] == sorted(times[4:])
    lost, again = moments[4], moments[5]
    assert "was killed by SIGKILL" in lost["text"]
    assert (lost["attempt"], again["attempt"]) == (1, 2)
    assert lost["worker"] != again["worker"]
    assert all(each["host"] and each["engine"] for each in (lost, again))
    assert any("was killed by SIGKILL" in line for line in life["log"]), life["log"]
    assert any(f"job {life['job_id']}: attempt 2" in line for line in life["log"])
    by_job = run.ew.run("trace", life["job_id"])
    assert "was killed by SIGKILL" in by_job.stdout, by_job.stderr
    unknown = run.ew.run("trace", "no-such-job")
    assert unknown.returncode != 0
    assert "no job `no-such-job` is known" in unknown.stderr


def test_an_answer_survives_the_death_of_the_gateway(quickstarted: Quickstarted) -> None:
    key = f"retry-{time.time_ns()}"
    gateway = psutil.Process(quickstarted.ew.status()["gateway"]["pid"])
    processes = [*gateway.children(recursive=True), gateway]
    events = ask(quickstarted, LONGEST, **{"Idempotency-Key": key})
    seen = [next(events)]
    for process in processes:
        process.kill()
    with pytest.raises(Exception, match=r"peer closed|disconnected|reset|incomplete"):
        seen += list(events)

    def resumed() -> bool:
        last = {"Idempotency-Key": key, "Last-Event-ID": seen[-1]["id"]}
        try:
            seen.extend(ask(quickstarted, LONGEST, **last))
        except OSError:
            return False
        except Exception as error:
            if "onnect" in str(error):
                return False
            raise
        return True

    wait_for(resumed, 30, "the gateway to be back")
    assert_whole(seen, LONGEST)


def test_sixty_four_answers_at_once_are_all_exact(quickstarted: Quickstarted) -> None:
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(64)]
    answers: list[list[dict[str, str]]] = [[] for _ in asked]

    def collect(place: int) -> None:
        answers[place] = list(ask(quickstarted, asked[place]))

    threads = [threading.Thread(target=collect, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for question, events in zip(asked, answers, strict=True):
        assert_whole(events, question)


def test_stop_leaves_nothing_behind(quickstarted: Quickstarted) -> None:
    assert quickstarted.ew.processes()
    assert quickstarted.ew.run("stop").returncode == 0
    assert quickstarted.ew.processes() == []
    left = [path.name for path in (quickstarted.ew.state_dir / "run").glob("*")]
    assert [name for name in left if name.endswith((".sock", ".pid"))] == []
    assert quickstarted.ew.run("status").returncode == 0
