"""Prices as options: what a scenario becomes where device seconds and megabytes cost something.

A scenario whose own file names no prices is taken as its *priced copy* once prices are given: the
same network, machines, link, traces and deadline, with hedging allowed and with the plans that are
worth choosing among at `USUAL`. Its plans are the same at any price, so that one policy and one
running device serve them all. A scenario whose file has prices keeps its plans as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from controller.scenarios.file import read_scenario
from controller.scenarios.loading import load_setting
from controller.scenarios.sections import PRICED, RewardSection, Scenario
from controller.scenarios.setting import Setting

USUAL = RewardSection(device_second=0.5, megabyte=3.0)
"""Prices at which a priced copy's plans are chosen: half a correct answer for a second of the
device, three for a megabyte."""
ARTICLES = ("A ", "An ", "The ")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices that somebody gives, in correct answers; None: the scenario's own."""

    device_second: float | None = None
    """Of a second of the device's processor."""
    megabyte: float | None = None
    """Of a megabyte that crosses the link."""

    @property
    def given(self) -> bool:
        """Whether any price is given; 0 is one, too."""
        return self.device_second is not None or self.megabyte is not None

    def scenario(self, own: Scenario) -> Scenario:
        """The scenario whose plans serve these prices: itself, or its priced copy."""
        return priced_copy(own) if self.given else own

    def applied(self, own: Scenario) -> Setting:
        """The scenario loaded, at these prices.

        What is not given costs what `own`'s file says: nothing, where it names no prices.
        """
        if not self.given:
            return load_setting(own)
        setting = load_setting(self.scenario(own))
        return setting.at_prices(*self.over(own.reward))

    def over(self, own: RewardSection) -> tuple[float, float]:
        """Both prices, of a device second and of a megabyte, `own` where none is given."""
        return (
            own.device_second if self.device_second is None else self.device_second,
            own.megabyte if self.megabyte is None else self.megabyte,
        )

    def options(self) -> list[str]:
        """The same as words of a command line."""
        named = (("--device-second", self.device_second), ("--megabyte", self.megabyte))
        return [word for name, price in named if price is not None for word in (name, repr(price))]


NO_PRICES = Prices()
"""None are given: the scenario's own."""


def load_priced(scenario: str | Path, prices: Prices) -> Setting:
    """A scenario, a shipped name or a file, loaded at its own prices or at those given."""
    return prices.applied(read_scenario(scenario))


def priced_copy(own: Scenario) -> Scenario:
    """What a stream without prices is taken as once they are given; other scenarios as they are."""
    if own.kind == "closed-loop" or own.reward != RewardSection():
        return own
    said = own.description
    if said.startswith(ARTICLES):
        said = said[0].lower() + said[1:]
    return msgspec.structs.replace(
        own,
        name=own.name + PRICED,
        description=f"Device seconds and megabytes have a price: {said}",
        plans=msgspec.structs.replace(own.plans, hedge=True),
        reward=USUAL,
    )
