"""What `package.module:name` names, imported; whatever goes wrong is one line."""

from __future__ import annotations

import importlib
from typing import Any

from artefacts import UsageError

EXPECTED = (
    "expected PACKAGE.MODULE:FACTORY of an installed package or of a folder in PYTHONPATH "
    "(only simulating commands look in the working folder)"
)


def imported(named: str, what: str) -> Any:
    """The object that `named` names; `UsageError` beginning with `what` where there is none.

    Whatever the module raises while it is imported is the mistake of whoever wrote it.
    """
    module, _, attribute = named.partition(":")
    if not module or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(f"{what}: found '{named}', {EXPECTED}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{what}: found no module '{error.name}', {EXPECTED}") from None
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{what}: importing '{module}' failed: {type(error).__name__}: {error}"
        ) from None
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise UsageError(f"{what}: found no '{attribute}' in '{module}', {EXPECTED}") from None
    return found
