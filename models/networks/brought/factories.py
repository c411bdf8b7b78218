"""What a user's names give: a module, the heads of its exits, labelled pictures."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from artefacts import UsageError
from artefacts.namesakes import ROOMS

HeadFactory = Callable[[tuple[int, ...], int], nn.Module]


def _imported(what: str, named: str) -> Any:
    """What `package.module:name` names; the working folder is looked in too."""
    module_name, _, factory = named.partition(":")
    if not module_name or not factory.isidentifier():
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
        return getattr(importlib.import_module(module_name), factory)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{what} '{named}': found no module '{error.name}', expected PACKAGE.MODULE:FACTORY "
            "that can be imported from here"
        ) from None
    except AttributeError:
        raise UsageError(
            f"{what} '{named}': found no '{factory}' in '{module_name}', expected a function or "
            "class"
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's module raises meanwhile
        raise UsageError(
            f"{what} '{named}': importing '{module_name}' failed: {type(error).__name__}: {error}"
        ) from None


def load_factory(named: str) -> nn.Module:
    """The module that `package.module:factory` makes."""
    found = _imported("model", named)
    factory = named.partition(":")[2]
    try:
        made = found() if callable(found) and not isinstance(found, nn.Module) else found
    except (Exception, SystemExit) as error:  # whatever the user's factory raises
        raise UsageError(
            f"model '{named}': '{factory}()' failed: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"model '{named}': found a {type(made).__name__}, expected a torch.nn.Module"
        )
    return made.eval()


def load_head(named: str) -> HeadFactory:
    """`package.module:factory`, a function of (shape, classes) that gives an exit's head."""
    factory = _imported("heads", named)
    if not callable(factory):
        raise UsageError(
            f"heads '{named}': found a {type(factory).__name__}, expected a function of "
            "(shape of one sample's tensor, classes)"
        )

    def checked(shape: tuple[int, ...], classes: int) -> nn.Module:
        try:
            head = factory(shape, classes)
            with torch.inference_mode():
                scores = head.eval()(torch.zeros(2, *shape))
            found = tuple(scores.shape)
        except (Exception, SystemExit) as error:  # whatever the user's function and module raise
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: failed with "
                f"{type(error).__name__}: {error}"
            ) from None
        if found != (2, classes):
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: found an output of shape "
                f"{found}, expected (2, {classes}) for a batch of two"
            )
        if not bool(torch.isfinite(scores).all()):
            raise UsageError(
                f"heads '{named}' for a tensor of shape {shape}: found scores that are not finite "
                "numbers, expected class scores"
            )
        made: nn.Module = head
        return made

    return checked
