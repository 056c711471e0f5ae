"""`./ew chat` in a terminal, with the real gateway."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pexpect
import pytest

from contract.keys import make_key
from orchestrator.client.dialogue import Conversation
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal


class ScriptedGateway:
    """Answers with pieces of text, and keeps what it was sent."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.bodies: list[dict[str, object]] = []

    def stream(self, body: dict[str, object]) -> Iterator[str]:
        self.bodies.append(body)
        yield from self.pieces


@pytest.fixture
def ready(host: Host, terminal: Terminal) -> Terminal:
    terminal.configure(demo={"engine_args": {"default_tokens": 3}})
    started = terminal.run("start")
    assert started.code == 0, started
    return terminal


def test_a_conversation(ready: Terminal) -> None:
    chat = ready.spawn("chat", "demo")
    chat.expect("/help shows more")
    chat.expect("> ")
    chat.sendline("/help")
    chat.expect("/bye +end")
    chat.expect("> ")
    chat.sendline("/hlep")
    chat.expect("no command `/hlep`")
    chat.expect("> ")
    chat.sendline("/etc/hosts: what is it?")
    chat.expect("0 1 2 \r\n")
    chat.expect("> ")
    chat.sendline("/clear")
    chat.expect("> ")
    chat.sendline("/bye")
    chat.expect(pexpect.EOF)
    assert chat.wait() == 0
    history = ready.state / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600

    again = ready.spawn("chat", "demo")
    again.expect("> ")
    again.send("\x1b[A\x1b[A\x1b[A")
    # readline draws only what differs from the line before.
    again.expect("etc/hosts: what is it\\?")
    again.sendline("")
    again.expect("0 1 2 \r\n")
    again.expect("> ")
    again.sendeof()
    again.expect(pexpect.EOF)
    assert again.wait() == 0

    # Its own key opens at the first attempt, and none is left.
    assert "no keys" in ready.run("keys", "list").err
    unknown = ready.run("chat", "dmeo", stdin="hi")
    assert unknown.code == 1
    assert "dmeo" in unknown.err


def test_a_key_and_a_question_that_are_none_are_told(ready: Terminal) -> None:
    hint = "`unset EW_API_KEY` and chat makes a key of its own; `./ew keys list` shows the others"
    key = make_key().text
    refused = ready.run("chat", "demo", stdin="hi", EW_API_KEY=key)
    assert refused.code == 1
    assert refused.err == (
        "error: the gateway refuses the key in EW_API_KEY: it is unknown, expired or revoked\n"
        f"hint: {hint}\n"
    )
    for text in (key[:-1], "sk-something", "ew_\xe9", "two\nlines"):
        wrong = ready.run("chat", "demo", stdin="hi", EW_API_KEY=text)
        assert wrong.code == 1
        assert wrong.err == (
            f"error: EW_API_KEY holds no key of ew: it is mistyped, or cut off\nhint: {hint}\n"
        )

    assert "nothing is asked" in ready.run("chat", "demo", stdin=" \n").err
    wrong = ready.run("chat", "demo", stdin=os.fsdecode(b"\xff"))
    assert wrong.code == 1
    assert "not UTF-8" in wrong.err


def test_what_a_terminal_would_obey_is_shown_instead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gateway = ScriptedGateway("a\x1b]0;title\x07", "b\x9b2J", "c\x7f\td\r\n", "\x1b", "[31mé🙂")
    Conversation(gateway, {}, None).ask("hi")  # type: ignore[arg-type]
    assert capsys.readouterr().out == "a␛]0;title␇b\\x9b2Jc␡\td\n␛[31mé🙂\n"


def test_what_was_said_is_sent_again_until_it_is_forgotten() -> None:
    gateway = ScriptedGateway("fine")
    conversation = Conversation(gateway, {"modelId": "m"}, "be brief")  # type: ignore[arg-type]
    for _ in range(2):
        conversation.ask("how are you?")
    conversation.forget()
    conversation.ask("hello")
    lengths = [len(body["messages"]) for body in gateway.bodies]  # type: ignore[arg-type]
    assert lengths == [2, 4, 2]
