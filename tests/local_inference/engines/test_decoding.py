from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from local_inference.engines.decoding import _BYTES, StopFilter, TokenText

_SPELLING = {byte: character for character, byte in _BYTES.items()}


def _spell(data: bytes) -> str:
    return "".join(_SPELLING[byte] for byte in data)


@given(st.text(), st.lists(st.integers(min_value=1, max_value=5), min_size=1))
def test_text_cut_into_tokens_anywhere_comes_back_whole(text: str, sizes: list[int]) -> None:
    data = text.encode("utf-8", "surrogatepass") if text.isascii() else text.encode("utf-8", "ignore")
    decoder, pieces, at, turn = TokenText(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(decoder.push(_spell(data[at : at + size])))
        at, turn = at + size, turn + 1
    assert "".join(pieces) == data.decode()
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_half_a_character_is_held_back_and_a_broken_one_replaced() -> None:
    decoder = TokenText()
    first, second = "好".encode()[:2], "好".encode()[2:]
    assert decoder.push(_spell(first)) == ""
    assert decoder.push(_spell(second)) == "好"
    assert decoder.push(_spell(first)) == ""
    assert decoder.push(_spell(b"a")) == "\ufffda"


@given(
    st.text(alphabet="abc"),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(min_value=1, max_value=5),
)
def test_a_stop_text_ends_the_answer_before_itself_however_it_is_cut(text: str, stop: list[str], size: int) -> None:
    stops = StopFilter(tuple(stop))
    shown = ""
    for at in range(0, len(text), size):
        piece = stops.push(text[at : at + size])
        shown += piece
        assert text.startswith(shown)  # nothing shown is ever taken back
    shown += stops.flush()
    assert not any(s in shown for s in stop)
    assert stops.stopped == any(s in text for s in stop)
    if not stops.stopped:
        assert shown == text


def test_text_that_cannot_become_a_stop_text_is_not_held_back() -> None:
    stops = StopFilter(("END",))
    assert stops.push("the E") == "the "
    assert stops.push("agle") == "Eagle"
    assert stops.push(" EN") == " "
    assert stops.flush() == "EN"


def test_without_stop_texts_all_passes_at_once() -> None:
    assert StopFilter(()).push("anything") == "anything"
