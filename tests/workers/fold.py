"""What a client sees of an answer: the rules by which a gateway reads letters, as a program."""

from __future__ import annotations

from array import array

from contract.messages import Delta, Done, Failed, Letter, Started


class Fold:
    """One job's letters, put together. Fails if they cannot be: a gap, or an unannounced attempt.

    A `Started` fences off all earlier attempts; sequence numbers seen before are repetitions;
    what comes after the end does not count.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.next_seq = 0
        self.text = ""
        self.tokens = array("I")
        self.end: Done | Failed | None = None
        #: Every letter that came, also those that did not count.
        self.letters: list[Letter] = []

    def take(self, letter: Letter) -> None:
        self.letters.append(letter)
        if self.end is not None or letter.attempt < self.attempt:
            return
        match letter.event:
            case Started():
                self.attempt = letter.attempt
            case Failed() as failed:
                assert letter.attempt == self.attempt, f"{letter} has not started"
                self.end = failed
            case Delta() | Done() as event:
                self._take_numbered(letter, event)

    def _take_numbered(self, letter: Letter, event: Delta | Done) -> None:
        assert letter.attempt == self.attempt, f"{letter} has not started"
        assert letter.seq <= self.next_seq, f"{self.next_seq} is missing before {letter}"
        if letter.seq < self.next_seq:
            return
        self.next_seq += 1
        if isinstance(event, Done):
            self.end = event
        else:
            self.text += event.text
            self.tokens.frombytes(event.tokens)

    def of_attempt(self, attempt: int) -> list[Letter]:
        """All letters of one attempt, also those that did not count."""
        return [letter for letter in self.letters if letter.attempt == attempt]


def counted(first: int, last: int) -> str:
    """What the mock engine says from token `first` up to but without token `last`."""
    return "".join(f"{token} " for token in range(first, last))


def assert_counted(fold: Fold, tokens: int) -> None:
    """The mock engine's whole answer of so many tokens arrived: every one, once, in order."""
    assert isinstance(fold.end, Done), fold.end
    assert fold.text == counted(0, tokens)
    assert list(fold.tokens) == list(range(tokens))
    assert fold.end.completion_tokens == tokens
    assert fold.end.finish_reasons == ("length",)
