"""What others call things is shown, and obeyed by nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import ArtefactError
from artefacts.printing import apart, printable, shortened


@given(st.text(st.characters(), max_size=60))
def test_whatever_is_shown_prints_and_is_one_line(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("a\nb\u202e", "a\\nb\\u202e"),
        ("caf\udce9", "caf\\udce9"),
        ("Tür [/a]", "Tür [/a]"),
    ],
)
def test_what_a_terminal_obeys_becomes_escapes(text, shown):
    assert printable(text) == shown


def test_some_characters_may_stay():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_a_long_line_keeps_its_ends():
    line = "coinfer: " + "x" * 5_000_000 + ", expected y"
    short = shortened(line)
    assert len(short) < 1100
    assert short.startswith("coinfer: xxx")
    assert short.endswith("xxx, expected y")
    assert "characters ...]" in short
    assert shortened("short") == "short"


def test_what_a_file_says_is_repeated_shortened():
    error = ArtefactError("card.json", field="context", found="x" * 520_000, expected="y" * 9000)
    assert str(error).startswith("card.json, field 'context': found xxx")
    assert len(str(error)) < 2_200
    assert "characters ...]" in error.found
    assert str(ArtefactError("a", found="1", expected="2")) == "a: found 1, expected 2"


def test_two_long_texts_are_shown_where_they_part():
    """A line is cut short: what is the same in both would be all that is seen of them."""
    same = "a run of much that is said alike " * 9
    found, expected = apart(f"{same}of 3 exits and more", f"{same}of 5 exits and more")
    assert found == "…h that is said alike of 3 exits and more"
    assert expected == found.replace("3", "5")
    assert apart("one", "one and more") == ("one", "one and more")
