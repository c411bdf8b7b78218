"""Names as matplotlib shows them."""

import os

import pytest

from traces.plots import plain_label


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bus-1", "bus-1"),
        ("a$b$c", r"a\$b\$c"),
        ("_bus", " _bus"),
        (os.fsdecode(b"b\xfcs"), r"b\udcfcs"),
    ],
)
def test_a_label_is_no_formula_and_is_not_left_out(name, shown):
    assert plain_label(name) == shown
