"""What a user's names give: a module, the heads of its exits, labelled pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from artefacts import UsageError
from artefacts.imported import imported
from models.capture.lower import lower_stretch
from models.networks.brought.class_names import class_names

HeadFactory = Callable[[tuple[int, ...], int], nn.Module]


def load_factory(named: str) -> nn.Module:
    """The module that `package.module:factory` makes."""
    found = imported("model", named)
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


def load_named(named: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The module that `package.module:factory` makes, and the names that it has for its classes."""
    module = load_factory(named)
    return module, class_names(module)


def load_head(named: str) -> HeadFactory:
    """`package.module:factory`, a function of (shape, classes) that gives an exit's head."""
    factory = imported("heads", named)
    if not callable(factory):
        raise UsageError(
            f"heads '{named}': found a {type(factory).__name__}, expected a function of "
            "(shape of one sample's tensor, classes)"
        )

    lowered = set[tuple[int, ...]]()

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
        if shape not in lowered:
            # a head that cannot be run without torch is refused before it is trained
            lower_stretch(made, torch.zeros(2, *shape), f"heads {named}")
            lowered.add(shape)
        return made

    return checked
