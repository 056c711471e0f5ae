"""Stop strings end an answer, and no part of one is ever sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.shared.stop_strings import StopStrings

ENVELOPES = st.text(alphabet="abx", max_size=12)


def sent(chunks: list[str], stops: list[str]) -> tuple[str, bool]:
    """Return what goes out of a text that grows by these chunks, and whether it was stopped."""
    strings, text, out = StopStrings(stops), "", ""
    for chunk in chunks:
        text += chunk
        cut = strings.cut(text, len(out))
        out = text[: max(len(out), cut.length)]
        if cut.stopped:
            return out, True
    return out, False


@given(st.lists(ENVELOPES, max_size=8), st.lists(ENVELOPES.filter(bool), min_size=1, max_size=3))
def test_however_a_text_is_cut_up_it_ends_before_its_first_stop_string(
    chunks: list[str], stops: list[str]
) -> None:
    text = "".join(chunks)
    found = [text.find(stop) for stop in stops if stop in text]
    out, stopped = sent(chunks, stops)
    assert stopped == bool(found)
    if stopped:
        assert out == text[: min(found)]
    else:
        held = text[len(out) :]
        assert text.startswith(out)
        assert not held or any(stop.startswith(held) for stop in stops)


def test_text_without_stop_strings_goes_out_at_once() -> None:
    assert sent(["a", "b", "ab"], []) == ("abab", False)


def test_what_may_begin_a_stop_string_waits_until_it_is_known() -> None:
    strings = StopStrings(["</end>"])
    assert strings.cut("yes</e", 0) == (3, "")
    assert strings.cut("yes</ex", 3) == (7, "")
    assert strings.cut("yes</end> no", 3) == (3, "</end>")
