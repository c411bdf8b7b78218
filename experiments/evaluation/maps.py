"""Edgent's configuration map for a scenario, from the bandwidth states of its training traces."""

from __future__ import annotations

from collections.abc import Sequence

from controller.planners.configuration_map import ConfigurationMap, build_map
from controller.scenarios import Setting
from traces.states import BandwidthState, oboe_states, states_by_quantiles
from traces.trace import BandwidthTrace

MAP_STATES = 32


def made_map(setting: Setting, training: Sequence[BandwidthTrace]) -> ConfigurationMap:
    """Algorithm 2 over Oboe's states (closed loop, as the paper) or those of the traces."""
    states, source = map_states(setting, training)
    return build_map(setting, states, source)


def map_states(
    setting: Setting, training: Sequence[BandwidthTrace]
) -> tuple[tuple[BandwidthState, ...], str]:
    """Bandwidth states for a scenario's map, and where they come from."""
    if setting.closed_loop:
        return tuple(oboe_states()), "the 428 sessions of Oboe"
    states = states_by_quantiles(training, MAP_STATES, 5.0)
    return tuple(states), f"{MAP_STATES} quantile states of the training traces"
