"""A shipped scenario in a world where plans cost what their profiles say."""

import msgspec
from priced import taken

from controller.scenarios.world import WorldSection


def tidy(name):
    """The scenario of that name without its world."""
    return msgspec.structs.replace(taken(name), world=WorldSection())
