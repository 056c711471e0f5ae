"""Bodies that a real vLLM takes, ew takes: those of vllm_bodies.py become jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.messages import ChatMessage, Job
from gateway.api.fields import GenerationBody, parse
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.http.errors import ApiError
from tests.gateway.api.vllm.vllm_bodies import (
    PATHS,
    STATUSES,
    USER,
    bodies,
    function,
    json_schema,
)

FORMS: dict[str, type[GenerationBody]] = {
    PATHS["chat"]: ChatCompletionRequest,
    PATHS["completion"]: CompletionRequest,
}
VLLM: dict[str, int] = json.loads(STATUSES.read_text())
#: Bodies that vLLM takes and ew refuses, by the field of the error: each changes the answer.
REFUSED: dict[str, str] = {}
BODIES = [pytest.param(*body, name, id=name) for name, body in bodies().items()]


def refused_by_ew(path: str, body: dict[str, Any]) -> str:
    """The field that an error names; empty if the body becomes a job."""
    try:
        parse(FORMS[path], json.dumps(body).encode()).job("job", "key")
    except ApiError as error:
        return error.field or "?"
    return ""


@pytest.mark.parametrize(("path", "body", "name"), BODIES)
def test_what_vllm_takes_ew_takes(path: str, body: dict[str, Any], name: str) -> None:
    if VLLM[name] == 200:
        assert refused_by_ew(path, body) == REFUSED.get(name, "")


def test_every_body_was_sent_to_vllm() -> None:
    assert list(VLLM) == list(bodies())
    assert sum(status == 200 for status in VLLM.values()) > 200


def test_what_is_refused_is_taken_by_vllm() -> None:
    assert [name for name in REFUSED if VLLM[name] != 200] == []


def job_of(**more: Any) -> Job:
    body = {"model": "demo", "messages": [USER], **more}
    return parse(ChatCompletionRequest, json.dumps(body).encode()).job("job", "key")


def said_by(**message: Any) -> ChatMessage:
    job = job_of(messages=[message])
    assert job.messages is not None
    return job.messages[0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["a", {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "refusal", "refusal": "no"}], "hm\nno"),
        ([{"type": "output_text", "text": "x", "annotations": []}], "x"),
        ([], ""),
        (None, ""),
    ],
)
def test_parts_that_are_text_are_read_and_nothing_is_no_text(content: Any, text: str) -> None:
    assert said_by(role="user", content=content).content == text


@pytest.mark.parametrize("part", [{"type": "text"}, {"text": "a"}, 5, {"type": "refusal"}])
def test_a_part_without_its_text_is_refused(part: Any) -> None:
    with pytest.raises(ApiError, match="not a part of text"):
        said_by(role="user", content=[part])


def test_a_role_of_the_templates_own_reaches_it() -> None:
    assert said_by(role="ipython", content="5").role == "ipython"


def test_of_two_limits_the_newer_one_counts() -> None:
    assert job_of(max_tokens=8, max_completion_tokens=4).sampling.max_tokens == 4


def test_documents_go_to_the_template() -> None:
    template = job_of(documents=[{"title": "a", "text": "b"}]).template
    assert template is not None
    assert json.loads(template.arguments) == {"documents": [{"title": "a", "text": "b"}]}


def test_a_call_that_is_forced_goes_before_another_constraint() -> None:
    job = job_of(**function(), **json_schema(), tool_choice="required")
    assert (job.tools and job.tools.choice, job.sampling.guided) == ("required", None)
    assert job_of(**function(), **json_schema()).sampling.guided is not None
