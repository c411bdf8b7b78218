"""What a user's `PACKAGE.MODULE:NAME` names, imported: the working folder is looked in, too."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from artefacts.errors import UsageError
from artefacts.namesakes import ROOMS


def is_named(text: str) -> bool:
    """Whether a text has the form PACKAGE.MODULE:NAME."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))


def imported(what: str, named: str) -> Any:
    """What `named` (PACKAGE.MODULE:NAME) names; `what` it is for begins a refusal's line.

    Raises `UsageError`, also for whatever the user's module raises while it is imported.
    """
    module_name, _, name = named.partition(":")
    if not module_name or not name.isidentifier():
        raise UsageError(f"{what}: found '{named}', expected PACKAGE.MODULE:FACTORY")
    room = module_name.partition(".")[0]
    if room in ROOMS:
        raise UsageError(
            f"{what}: found '{named}', expected a module of another name ('{room}' is a package of "
            "coinfer's: rename yours)"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} '{named}': found no module '{error.name}', expected PACKAGE.MODULE:FACTORY "
            "that can be imported from here"
        ) from None
    except AttributeError:
        raise UsageError(
            f"{what} '{named}': found no '{name}' in '{module_name}', expected a function or class"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's module raises meanwhile
        raise UsageError(
            f"{what} '{named}': importing '{module_name}' failed: {type(error).__name__}: {error}"
        ) from None
