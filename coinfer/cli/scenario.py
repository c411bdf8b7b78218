"""A scenario as commands take it: loaded, at its own prices or at those of the options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coinfer.cli.console import console

if TYPE_CHECKING:
    from controller.scenarios import Prices, Setting
    from models.facts.outcomes import Outcomes
    from traces.library import TraceSet

FEW_SAMPLES_ERROR = 0.01
"""A standard error of accuracies that is worth a word: plans often differ by less than twice it."""


def setting_of(
    scenario: str, device_second: float | None = None, megabyte: float | None = None
) -> Setting:
    """The scenario loaded, at its own prices or at those given."""
    from controller.scenarios import load_priced

    return load_priced(scenario, prices_of(device_second, megabyte))


def prices_of(device_second: float | None, megabyte: float | None) -> Prices:
    """The prices that the options gave."""
    from controller.scenarios import Prices

    return Prices(device_second, megabyte)


def trained_setting(
    scenario: str, prices: Prices, most_device_second: float, most_megabyte: float
) -> Setting:
    """The scenario that a policy is made for, at its own prices or at those given.

    Who asks for a range of prices asks for prices; a range that cannot be is refused.
    """
    from controller.scenarios import Prices, read_scenario
    from experiments.learning.tasks import price_grids

    own = read_scenario(scenario)
    if not prices.given and max(most_device_second, most_megabyte) > 0:
        prices = Prices(own.reward.device_second, own.reward.megabyte)
    setting = prices.applied(own)
    price_grids(setting, most_device_second, most_megabyte)
    return setting


def policy_of(
    scenario: str, given: Path | None = None, prices: Prices | None = None
) -> Path | None:
    """The folder of a policy: `given`, or the scenario's own at `prices`; None: it has none."""
    from controller.policies.network import policy_folder
    from controller.scenarios import read_scenario

    own = read_scenario(scenario)
    taken = own if prices is None else prices.scenario(own)
    return given or policy_folder(scenario, taken.name)


def controller_of(
    named: str, scenario: str, policy: Path | None, prices: Prices | None = None
) -> str:
    """Who decides: who is named, else the scenario's policy, else the robust planner, with a word.

    `policy` is what `policy_of` finds.
    """
    if named:
        return named
    if policy is not None:
        return "learned"
    say_no_policy(scenario, "controller: 'robust' decides", prices)
    return "robust"


def say_no_policy(scenario: str, consequence: str, prices: Prices | None = None) -> None:
    """What follows from a scenario without a policy, and how one is made, on standard error."""
    from controller.policies import beside_scenario

    out, asked, at = beside_scenario(scenario), scenario, ""
    if prices is not None and prices.given:
        # beside the file lies the policy of the scenario without prices
        out, asked, at = None, " ".join([scenario, *prices.options()]), " at these prices"
    console.print(
        f"{consequence}: scenario '{scenario}' has no policy{at} (coinfer train --scenario {asked} "
        f"--out {out or 'FOLDER'} makes one, without training coinfer adapt; --policy names one "
        "that lies elsewhere)",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def say_samples(outcomes: Outcomes, least_error: float = FEW_SAMPLES_ERROR) -> None:
    """How many samples the accuracies rest on, where their standard error is `least_error`."""
    error = outcomes.standard_error()
    if error >= least_error:
        console.print(
            f"plans are chosen by accuracies on {len(outcomes.half('policy'))} samples: "
            f"+-{100 * error:.1f} points (standard error); closer ones may be equal",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def say_source(traces: TraceSet) -> None:
    """Which traces are used, on standard error."""
    console.print(f"traces: {traces.source}")


def usual_out(scenario: str, setting: Setting) -> Path:
    """Where the scenario's policy is looked for, or a place among others of that kind.

    Beside a file lies the policy of the scenario as the file has it, not one for other prices.
    """
    from artefacts import UsageError
    from controller.policies import beside_scenario
    from controller.policies.network import has_policy, read_card
    from controller.scenarios import read_scenario

    beside, name = beside_scenario(scenario), setting.scenario.name
    if beside is None or setting.prices != read_scenario(scenario).reward:
        return Path("runs") / "policies" / name
    if has_policy(beside) and (other := read_card(beside).scenario) != name:
        raise UsageError(
            f"--out: found the policy of scenario '{other}' in '{beside}', expected a folder for "
            f"that of '{name}'"
        )
    return beside
