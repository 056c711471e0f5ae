"""Reading an answer from the gateway's stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.client.gateway_client import Gateway, KeyRefused, read_events
from orchestrator.errors import UserError


def test_events_are_read_and_comments_left_out() -> None:
    lines = ["id: 0", 'data: {"text":"a"}', "", ": heartbeat", "", "event: done", "data: {}", ""]
    assert list(read_events(lines)) == [("", '{"text":"a"}'), ("done", "{}")]


class Scripted(BaseHTTPRequestHandler):
    """Answers each request with the next of its server's answers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.answers = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: HTTPServer) -> list[str]:
    return list(Gateway(f"http://127.0.0.1:{server.server_port}", "key").stream({"modelId": "m"}))


GOOD = b'id: 0\ndata: {"text":"hi "}\n\nid: 1\ndata: {"text":"you"}\n\nevent: done\ndata: {}\n\n'


def test_the_text_comes_piece_by_piece(server: HTTPServer) -> None:
    server.answers = [(200, GOOD)]
    assert ask(server) == ["hi ", "you"]


def test_a_key_that_is_refused_is_told_from_other_errors(server: HTTPServer) -> None:
    server.answers = [(401, b'{"message":"unknown key"}')]
    with pytest.raises(KeyRefused, match="the gateway says: unknown key"):
        ask(server)


def test_what_the_gateway_says_reaches_the_user(server: HTTPServer) -> None:
    server.answers = [(404, b'{"code":"model_not_found","message":"no such model"}')]
    with pytest.raises(UserError, match="the gateway says: no such model"):
        ask(server)


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(server: HTTPServer) -> None:
    server.answers = [(200, GOOD.partition(b"event")[0])]
    with pytest.raises(UserError, match="breaks off"):
        ask(server)
    server.answers = [(200, b'event: error\ndata: {"message":"engine lost"}\n\n')]
    with pytest.raises(UserError, match="breaks off: engine lost"):
        ask(server)


def test_a_gateway_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match=r"the gateway at http://127\.0\.0\.1:9"):
        list(Gateway("http://127.0.0.1:9", "key").stream({}))
