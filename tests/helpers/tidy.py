"""A shipped scenario in a world where plans cost what their profiles say."""

import msgspec

from controller.scenarios import read_scenario
from controller.scenarios.world import WorldSection


def tidy(name):
    """The scenario of that name without its world."""
    return msgspec.structs.replace(read_scenario(name), world=WorldSection())
