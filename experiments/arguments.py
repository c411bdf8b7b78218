"""Numbers on the command lines of the scripts here: refused where they make no sense."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number, 1 or more."""
    return _at_least(1, text)


def count_or_none(text: str) -> int:
    """A whole number, 0 or more."""
    return _at_least(0, text)


def above_0(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found '{text}', expected a number above 0")
    return value


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(
            f"found '{text}', expected a whole number of {least} or more"
        )
    return value
