"""Labels as people write them, names or numbers, become the numbers of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from artefacts import CoinferError
from artefacts.printing import first_of
from models.facts.outcomes import class_type

MOST_CLASSES = 65_536
MOST_DIGITS = 20
Refuse = Callable[[int, str, str], CoinferError]
"""Makes the error of a row (counted from 0): what was found there, what was expected."""


def numbered(
    labels: Sequence[str | int],
    classes: Sequence[str],
    own: Sequence[str],
    refuse: Refuse,
    likely: Sequence[str] = (),
) -> tuple[Any, tuple[str, ...]]:
    """The numbers of `labels` (N,), and the classes' names where they are known.

    `classes` are names in the order of the scores, where somebody has given them; `own` those that
    the data set itself has for its numbers. Names are looked up in `classes`, else in `own`, else
    numbered in alphabetical order. Numbers in digits are numbers, unless all of them are names.
    `likely` are the model's names, which count where those of the labels are among them; `refuse`
    makes the error of a row.
    """
    texts = {label for label in labels if isinstance(label, str)}
    known = set(own) or texts
    if not classes and known and known <= set(likely):
        classes = likely
    names = tuple(classes) or tuple(own)
    if texts and not texts <= set(names) and all(map(_is_number, texts)):
        labels = [int(label) for label in labels]
    if any(isinstance(label, str) for label in labels):
        return _by_name(list(map(str, labels)), names, refuse)
    if own and classes and tuple(own) != tuple(classes) and set(own) <= set(classes):
        # the set's numbers are its own: its names say which of the scores they mean
        _check_numbers(labels, len(own), refuse)
        return _by_name([own[int(label)] for label in labels], names, refuse)
    return _by_number([int(label) for label in labels], names, refuse)


def _is_number(label: str) -> bool:
    """In digits, of which the number of no class has so many that Python would not read them."""
    return label.isdecimal() and len(label) <= MOST_DIGITS


def _by_name(labels: list[str], names: tuple[str, ...], refuse: Refuse) -> tuple[Any, Any]:
    names = names or tuple(sorted(set(labels)))
    number = {name: k for k, name in enumerate(names)}
    for row, label in enumerate(labels):
        if label not in number:
            found = f"label '{label}'" if label else "an empty label"
            raise refuse(row, found, f"the name of a class ({first_of(names, 5)})")
    if len(names) > MOST_CLASSES:
        raise refuse(0, f"{len(names)} classes", f"at most {MOST_CLASSES}")
    found_numbers: Any = np.array([number[label] for label in labels])
    return found_numbers.astype(class_type(len(names))), names


def _by_number(labels: list[int], names: tuple[str, ...], refuse: Refuse) -> tuple[Any, Any]:
    _check_numbers(labels, len(names) or MOST_CLASSES, refuse)
    count = len(names) or max(labels, default=0) + 1
    found: Any = np.array(labels)
    return found.astype(class_type(count)), names


def _check_numbers(labels: Sequence[str | int], classes: int, refuse: Refuse) -> None:
    for row, label in enumerate(labels):
        if not 0 <= int(label) < classes:
            raise refuse(row, f"label {label}", f"a class from 0 to {classes - 1}")
