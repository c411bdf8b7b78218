"""Command lines of the scripts here: a mistake is one line, and numbers that make no sense are
refused.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from controller.scenarios import Prices


class LineParser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line: not the usage of some twenty options before."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and `message`."""
        self.exit(2, f"{self.prog}: {message}\n")


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


def add_price_options(parser: argparse.ArgumentParser, before: str = "") -> None:
    """Let a scenario be taken at prices, in correct answers; `before` begins what help says."""
    for option, what in (("--device-second", "a device second"), ("--megabyte", "a megabyte")):
        parser.add_argument(option, type=_price, help=f"{before}price of {what} (the scenario's)")


def prices_given(args: argparse.Namespace) -> Prices:
    """The prices that were given."""
    return Prices(args.device_second, args.megabyte)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0.0 <= price < float("inf"):
        raise argparse.ArgumentTypeError(f"found '{text}', expected a number of 0 or more")
    return price
