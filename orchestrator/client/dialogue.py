"""A conversation with a model, and its keyboard."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from contract.paths import state_dir
from orchestrator.client.gateway_client import Gateway, KeyRefused
from orchestrator.errors import UserError
from orchestrator.system.files import put_in_place
from orchestrator.terminal.speech import complain, printable, say, warn

_HELP: Final = """\
/help   show this
/clear  forget what was said
/bye    end; Ctrl-D does, too
Ctrl-C breaks an answer off. The arrow keys bring back what you asked before."""
_REMEMBERED_LINES: Final = 1000


class Conversation:
    """Turns that the model remembers."""

    def __init__(self, gateway: Gateway, options: dict[str, Any], system: str | None) -> None:
        self._gateway = gateway
        self._options = options
        self._beginning = [{"role": "system", "content": system}] if system else []
        self._messages = self._beginning

    def forget(self) -> None:
        """Begin anew."""
        self._messages = self._beginning

    def ask(self, question: str) -> None:
        """Print the answer as it comes; what a terminal would obey in it is shown instead. An
        answer that breaks off leaves no trace in the conversation."""
        messages = [*self._messages, {"role": "user", "content": question}]
        pieces = []
        with contextlib.closing(
            self._gateway.stream({**self._options, "messages": messages})
        ) as stream:
            for piece in stream:
                pieces.append(piece)
                sys.stdout.write(printable(piece))
                sys.stdout.flush()
        sys.stdout.write("\n")
        self._messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]


class Dialogue:
    """Asks what is typed, until the end of it."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def run(self) -> None:
        """Raises `KeyRefused`: no question would fare better."""
        say("Ctrl-C breaks an answer off, Ctrl-D ends, /help shows more")
        with _history():
            while True:
                try:
                    line = input("> ").strip()
                except (EOFError, KeyboardInterrupt):
                    sys.stdout.write("\n")
                    return
                if line == "/bye":
                    return
                self._take(line)

    def _take(self, line: str) -> None:
        if line == "/help":
            say(_HELP)
        elif line == "/clear":
            self._conversation.forget()
        elif re.fullmatch(r"/[a-z]+", line):
            # A path, or a sentence that begins with one, is a question.
            complain(f"no command `{line}`", "/help shows what there is")
        elif line:
            self._ask(line)

    def _ask(self, question: str) -> None:
        try:
            self._conversation.ask(question)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
        except KeyRefused:
            raise
        except UserError as error:
            complain(error.message, error.hint)


@contextmanager
def _history() -> Iterator[None]:
    """Line editing with what was typed before, where this Python has it."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = state_dir() / "chat_history"
    # There may be none yet, or an unreadable one: that is no reason not to talk.
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_REMEMBERED_LINES)
    try:
        yield
    finally:
        _write_history(readline, path)


def _write_history(readline: Any, path: Path) -> None:
    """Create the history file for its owner alone: questions may be confidential."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        readline.write_history_file(scratch)
        scratch.chmod(0o600)
        put_in_place(scratch, path)
    except OSError as error:
        warn(f"the history is not kept: {error}")
