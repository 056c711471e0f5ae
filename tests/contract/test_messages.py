"""Messages cross the wire unchanged."""

from __future__ import annotations

import contextlib
import struct
import sys

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from contract.asked import Guided, Turn
from contract.messages import (
    ChatMessage,
    Delta,
    Done,
    Envelope,
    ErrorCode,
    Failed,
    Heartbeat,
    Job,
    Sampling,
    Started,
    Status,
    TokenLogprob,
)
from contract.wire import decode_frame, decode_job, encode_frame, encode_job

text = st.text(max_size=20)
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
count = st.none() | st.integers(0, 1 << 40)
jobs = st.builds(
    Job,
    id=text,
    model=text,
    sampling=st.builds(
        Sampling,
        max_tokens=count,
        min_tokens=st.integers(0, 9),
        temperature=number,
        top_p=number,
        top_k=st.none() | st.integers(-1, 99),
        seed=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
        stop=st.lists(text, max_size=4).map(tuple),
        ignore_eos=st.booleans(),
        n=st.integers(1, 8),
        guided=st.none() | st.builds(Guided, kind=st.sampled_from(["json", "regex"]), value=text),
    ),
    prompt=st.none() | text,
    messages=st.none()
    | st.lists(
        st.builds(
            ChatMessage,
            role=st.sampled_from(["system", "user", "assistant"]),
            content=text,
            name=st.none() | text,
        ),
        max_size=3,
    ).map(tuple),
    adapter=st.none() | text,
    turn=st.builds(
        Turn,
        priority=st.sampled_from(["interactive", "normal", "batch"]),
        number=st.integers(-9, 9),
    ),
    emitted=st.lists(st.integers(0, (1 << 32) - 1), max_size=5).map(tuple),
    sent=text,
)
logprobs = st.builds(
    TokenLogprob,
    token=text,
    logprob=st.floats(allow_nan=False),
    alternatives=st.lists(st.tuples(text, st.floats(allow_nan=False)), max_size=3).map(tuple),
)
events = st.one_of(
    st.builds(Started),
    st.builds(Status, text, st.none() | st.integers(0, 99), number),
    st.builds(
        Delta,
        text,
        st.binary(max_size=16),
        st.integers(0, 7),
        st.none() | st.lists(logprobs, max_size=3).map(tuple),
    ),
    st.builds(
        Done,
        st.lists(st.sampled_from(["stop", "length", "cancelled"]), max_size=3).map(tuple),
        st.integers(0, 1 << 40),
        st.integers(0, 1 << 40),
        st.integers(0, 1 << 40),
        st.booleans(),
    ),
    st.builds(Failed, st.sampled_from(ErrorCode), text, st.booleans()),
)
envelopes = st.builds(Envelope, text, st.integers(0, 1 << 40), st.integers(0, 1 << 40), events)


@given(jobs)
def test_a_job_arrives_as_it_was_sent(job: Job) -> None:
    assert decode_job(encode_job(job)) == job


@given(st.lists(envelopes, max_size=8))
def test_a_frame_arrives_as_it_was_sent(frame: list[Envelope]) -> None:
    decoded = decode_frame(encode_frame(frame))
    assert decoded == frame
    assert [type(envelope.event) for envelope in decoded] == [
        type(envelope.event) for envelope in frame
    ]


@given(st.binary(max_size=64))
def test_bytes_that_are_no_job_raise_nothing_but_value_errors(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_job(data)


@given(jobs, st.data())
def test_a_damaged_job_raises_nothing_but_value_errors(job: Job, data: st.DataObject) -> None:
    encoded = bytearray(encode_job(job))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        decode_job(bytes(encoded))


def test_a_job_gains_fields_without_breaking_older_readers() -> None:
    job = Job("a", "m", Sampling(), prompt="x")
    wire = msgspec.msgpack.decode(encode_job(job))
    assert wire == {"v": 1, "id": "a", "model": "m", "sampling": {}, "prompt": "x"}
    newer = msgspec.msgpack.encode({**wire, "colour": "red"})
    assert decode_job(newer) == job


def test_a_delta_is_small_on_the_wire() -> None:
    tokens = struct.pack("=I", 42)
    frame = encode_frame([Envelope("j" * 22, 1, 300, Delta(" word", tokens))])
    assert len(frame) < 50


@pytest.mark.skipif(sys.byteorder != "little", reason="the example is little-endian")
def test_a_frame_has_the_form_that_others_may_read() -> None:
    frame = encode_frame([Envelope("a", 1, 0, Delta("x", b"\x07\x00\x00\x00"))])
    assert msgspec.msgpack.decode(frame) == [["a", 1, 0, ["d", "x", b"\x07\x00\x00\x00", 0, None]]]


def test_a_heartbeat_of_a_newer_worker_can_be_read() -> None:
    newer = {"name": "w", "model": "m", "engine": "e", "host": "h", "pid": 1, "state": "ready"}
    beat = msgspec.msgpack.decode(msgspec.msgpack.encode({**newer, "mood": 1}), type=Heartbeat)
    assert beat.name == "w"


def test_a_job_says_its_version_on_the_wire() -> None:
    job = Job(id="x", model="m", sampling=Sampling())
    fields = msgspec.msgpack.decode(encode_job(job))
    assert fields["v"] == 1
    with pytest.raises(msgspec.ValidationError):
        decode_job(msgspec.msgpack.encode({**fields, "v": 2}))
