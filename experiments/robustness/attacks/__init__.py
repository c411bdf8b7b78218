"""Attacks on running daemons, each beside a camera that must not lose its frames.

`cases()` is the table of all of them; `python -m experiments.robustness.attacks` makes them.
"""

from __future__ import annotations

import importlib
import importlib.util

from artefacts import UsageError
from experiments.robustness.attacks.case import Case

TOPICS = ("machine", "http", "grpc", "link")
"""Modules of this package, each with its `CASES`."""


def cases() -> dict[str, Case]:
    """Every attack by its name, in the order of the topics."""
    found: dict[str, Case] = {}
    for topic in TOPICS:
        name = f"{__name__}.{topic}"
        if importlib.util.find_spec(name) is None:
            continue
        for case in importlib.import_module(name).CASES:
            if case.name in found:
                raise UsageError(f"attacks: found '{case.name}' twice, expected one of that name")
            found[case.name] = case
    return found
