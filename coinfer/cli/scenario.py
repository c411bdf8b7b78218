"""A scenario as commands take it: loaded, at its own prices or at those of the options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coinfer.cli.console import console

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from models.facts.outcomes import Outcomes
    from traces.library import TraceSet

FEW_SAMPLES_ERROR = 0.01
"""A standard error of accuracies that is worth a word: plans often differ by less than twice it."""


def setting_of(
    scenario: str, device_second: float | None = None, megabyte: float | None = None
) -> Setting:
    """The scenario loaded, at its own prices or at those given."""
    from controller.scenarios import load_setting, read_scenario

    setting = load_setting(read_scenario(scenario))
    own = setting.scenario.reward
    if device_second is None and megabyte is None:
        return setting
    return setting.at_prices(
        own.device_second if device_second is None else device_second,
        own.megabyte if megabyte is None else megabyte,
    )


def policy_of(scenario: str, given: Path | None = None) -> Path | None:
    """The folder of a policy: `given`, or the scenario's own; None: it has none."""
    from controller.policies.network import policy_folder
    from controller.scenarios import read_scenario

    return given or policy_folder(scenario, read_scenario(scenario).name)


def controller_of(named: str, scenario: str, policy: Path | None) -> str:
    """Who decides: who is named, else the scenario's policy, else the robust planner, with a word.

    `policy` is what `policy_of` finds.
    """
    if named:
        return named
    if policy is not None:
        return "learned"
    say_no_policy(scenario, "controller: 'robust' decides")
    return "robust"


def say_no_policy(scenario: str, consequence: str) -> None:
    """What follows from a scenario without a policy, and how one is made, on standard error."""
    from controller.policies import beside_scenario

    out = beside_scenario(scenario)
    console.print(
        f"{consequence}: scenario '{scenario}' has no policy (coinfer train --scenario {scenario} "
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


def usual_out(scenario: str, name: str) -> Path:
    """Where the scenario's policy is looked for, or a place among others of that kind."""
    from artefacts import UsageError
    from controller.policies import beside_scenario
    from controller.policies.network import has_policy, read_card

    beside = beside_scenario(scenario)
    if beside is None:
        return Path("runs") / "policies" / name
    if has_policy(beside) and (other := read_card(beside).scenario) != name:
        raise UsageError(
            f"--out: found the policy of scenario '{other}' in '{beside}', expected a folder for "
            f"that of '{name}'"
        )
    return beside
