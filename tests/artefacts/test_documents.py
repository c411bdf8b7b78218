"""TOML and JSON as people write them: marks, line ends, and what takes a parser long."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import (
    ArtefactError,
    decode_text,
    read_json,
    read_toml,
)

pytestmark = pytest.mark.system


class Card(msgspec.Struct):
    name: str
    size: int = 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\n" + "a." * 20_000 + "b = 1\n", "line 2: found a key of more than 32 parts"),
        ("[" + "a." * 32 + "b]\n", "line 1: found a key of more than 32 parts"),
        ('"a\\"" . \'b\'' + " . c" * 40 + " = 1\n", "line 1: found a key of more than 32 parts"),
        ("name = '" + "a" * 2**18 + "'\n", "found 262154 characters, expected at most 262144"),
        ("name = " + "9" * 5000 + "\n", "expected valid TOML"),
        ("name = " + "[" * 5000 + "\n", "expected valid TOML"),
    ],
)
def test_toml_that_would_take_a_parser_long_is_refused_at_once(tmp_path, text, found):
    path = tmp_path / "a.toml"
    path.write_text(text)
    begun = time.process_time()
    with pytest.raises(ArtefactError) as error:
        read_toml(path, Card)
    assert found in str(error.value)
    assert time.process_time() - begun < 1.0


def test_dots_in_texts_and_few_parts_are_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "1.2.3"\n# ' + "... " * 50 + "\n")
    assert read_toml(path, Card) == Card("1.2.3")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_toml_with_a_byte_order_mark_and_any_line_ends(tmp_path, mark, end):
    path = tmp_path / "a.toml"
    path.write_bytes(mark + end.join([b'name = "\xc3\xa4"', b"# remark", b"size = 3", b""]))
    assert read_toml(path, Card) == Card("ä", 3)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_json_with_a_byte_order_mark_and_any_line_ends(tmp_path, end):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + end.join([b"{", b'"name": "a",', b'"size": 3}', b""]))
    assert read_json(path, Card) == Card("a", 3)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'name = "a"\r\n# Gr\xfc\xdfe\r\n', "line 2: found byte 0xfc, expected UTF-8 text"),
        (b'name = "a"\r\r\r# \xe4', "line 4: found byte 0xe4, expected UTF-8 text"),
        ('name = "a"'.encode("utf-16"), ": found UTF-16 (its byte order mark), expected UTF-8"),
        (b'name = "a', "expected valid TOML"),
        (b'name = "a\0"', "expected valid TOML"),
    ],
)
def test_other_text_is_refused_with_its_line(tmp_path, raw, said):
    path = tmp_path / "a.toml"
    path.write_bytes(raw)
    with pytest.raises(ArtefactError) as error:
        read_toml(path, Card)
    assert str(path) in str(error.value)
    assert said in str(error.value)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\ufeff")),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_text_is_the_same_whatever_the_mark_and_the_line_ends(text, end):
    for mark in ("", "\ufeff"):
        assert decode_text("x", (mark + text.replace("\n", end)).encode()) == text


@given(st.binary())
def test_any_bytes_are_text_or_refused(raw):
    try:
        text = decode_text("x", raw)
    except ArtefactError:
        return
    assert "\r" not in text
