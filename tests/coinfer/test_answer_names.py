"""`--answers ...=NAME,NAME`: which outputs are taken, each once."""

import pytest

from artefacts import UsageError
from coinfer.cli.learning.signature import parse_answers
from models.facts.answers import BoxesAnswer


def test_names_keep_their_order():
    assert parse_answers("boxes:3= b,a") == (BoxesAnswer(3), ("b", "a"))
    assert parse_answers("=last") == (None, ("last",))
    assert parse_answers("boxes:3") == (BoxesAnswer(3), ())
    assert parse_answers("") == (None, ())


@pytest.mark.parametrize("text", ["boxes:3=a,a", "boxes:3=,a", "boxes:3=a,", "vector=", "=a,b,a"])
def test_a_name_is_given_once_and_is_not_empty(text):
    with pytest.raises(UsageError, match=f"^--answers: found '{text}', expected names of outputs"):
        parse_answers(text)
