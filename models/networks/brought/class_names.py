"""Names of the classes as a module that is brought carries them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

NAMES = ("classes", "class_names", "names", "categories")
"""Attributes that hold names in the order of the scores, or by their number."""


def class_names(module: nn.Module) -> tuple[str, ...]:
    """The names that a module has for its scores, in their order; () where it has none.

    They are one of its attributes `classes`, `class_names`, `names` or `categories`, or those of
    transformers (`config.id2label`). What is no list of different names is none.
    """
    inner = getattr(module, "module", None)  # as DataParallel and others wrap one
    for one in (module, inner):
        if not isinstance(one, nn.Module):
            continue
        given = [getattr(one, name, None) for name in NAMES]
        given.append(getattr(getattr(one, "config", None), "id2label", None))
        for found in given:
            names = _names(found)
            if names:
                return names
    return ()


def _names(found: Any) -> tuple[str, ...]:
    if isinstance(found, Mapping):
        by_number = {str(key): name for key, name in found.items()}
        found = [by_number.get(str(k)) for k in range(len(by_number))]
    if not isinstance(found, list | tuple) or not all(isinstance(n, str) and n for n in found):
        return ()
    # what transformers calls classes that nobody has named says nothing
    unnamed = all(name == f"LABEL_{k}" for k, name in enumerate(found))
    return () if unnamed or len(set(found)) < len(found) else tuple(found)
