"""Requests of one turn go to vLLM's engine core together, in their order, and nothing overtakes
them."""

from __future__ import annotations

import json

import pytest

from contract.engines import declaration_of
from tests.engines.vllm_process import VllmProcess
from workers.engines.vllm.sending import READ

#: An `AsyncMPClient` with a socket of its own, and an engine core that notes what it is sent, and
#: in which turn of the client's loop.
_SCRIPT = """
import asyncio, json
from types import SimpleNamespace
import zmq, zmq.asyncio
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest, EngineCoreRequestType, core_client
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder
from workers.engines.vllm.sending import send_together

def connect(address):
    client = object.__new__(core_client.AsyncMPClient)
    client.resources = SimpleNamespace(engine_dead=False, output_queue_task=True)
    client.client_index, client.core_engine = 0, b"core"
    client.encoder = MsgpackEncoder()
    client.ctx = zmq.asyncio.Context()
    client.input_socket = client.ctx.socket(zmq.ROUTER)
    client.input_socket.bind(address)
    core = zmq.Context.shadow(client.ctx).socket(zmq.DEALER)
    core.setsockopt(zmq.IDENTITY, b"core")
    core.connect(address)
    core.send(b"ready")
    return client, core

def request(name):
    params = SamplingParams(max_tokens=1)
    return EngineCoreRequest(name, [1, 2], None, params, None, 0.0, None, None, None)

def received(core):
    found = []
    while core.poll(50):
        kind, body = core.recv_multipart()
        if kind == EngineCoreRequestType.ADD.value:
            found.append(MsgpackDecoder(EngineCoreRequest).decode([body]).request_id)
        else:
            found.append(MsgpackDecoder().decode([body]))
    return found

async def main():
    client, core = connect("inproc://core")
    await client.input_socket.recv_multipart()
    died = []
    outbox = SimpleNamespace(engine_died=lambda error: died.append(type(error).__name__))
    why = send_together(SimpleNamespace(engine_core=client), outbox)
    told = {"why": why}
    # None of these waits, so that all are in one turn.
    await client.add_request_async(request("a"))
    await client.add_request_async(request("b"))
    told["held"] = received(core)
    await asyncio.sleep(0)
    told["sent"] = received(core)
    await client.add_request_async(request("c"))
    await client.abort_requests_async(["c"])
    told["aborted"] = received(core)
    await asyncio.sleep(0)
    told["rest"] = received(core)
    client.resources.engine_dead = True
    try:
        await client.add_request_async(request("d"))
    except EngineDeadError:
        told["dead"] = True
    client.resources.engine_dead = False
    await client.add_request_async(request("e"))
    client.input_socket.close()
    await asyncio.sleep(0)
    told["died"] = died
    client, core = connect("inproc://other")
    client.__class__ = type("DPAsyncMPClient", (core_client.AsyncMPClient,), {})
    told["several"] = send_together(SimpleNamespace(engine_core=client), outbox)
    core_client.AsyncMPClient._send_input = request
    import inspect
    inspect.getsource = lambda f, real=inspect.getsource: "other" if f is request else real(f)
    client.__class__ = core_client.AsyncMPClient
    told["unknown"] = send_together(SimpleNamespace(engine_core=client), outbox)
    print(json.dumps(told))

asyncio.run(main())
"""


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_requests_of_one_turn_go_together_and_nothing_overtakes(vllm_process: VllmProcess) -> None:
    told = json.loads(vllm_process.run(_SCRIPT))
    own_way = "requests take vLLM's own way, which costs more"
    assert told == {
        "why": "",
        "held": [],
        "sent": ["a", "b"],
        "aborted": ["c", ["c"]],
        "rest": [],
        "dead": True,
        "died": ["ZMQError"],
        "several": f"{own_way}: by a `DPAsyncMPClient`",
        "unknown": f"{own_way}: this release has another `AsyncMPClient._send_input` than those "
        "that are known",
    }


def test_every_declared_release_was_read() -> None:
    declared = {*declaration_of("cpu-vllm").releases, *declaration_of("cuda-vllm").releases}
    for function, read in READ.items():
        assert declared <= read.keys(), function
