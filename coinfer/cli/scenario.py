"""A scenario as commands take it: loaded, at its own prices or at those of the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coinfer.cli.console import console

if TYPE_CHECKING:
    from controller.scenarios import Setting
    from traces.library import TraceSet


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


def say_source(traces: TraceSet) -> None:
    """Which traces are used, on standard error."""
    console.print(f"traces: {traces.source}")
