"""A policy whose weights are those of a plain network, made without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy, make_policy, save_policy
from controller.policies.observation import CANDIDATES, WIDTH
from controller.policies.weights import MlpWeights
from controller.scenarios import Setting


def plain_policy(folder: Path, setting: Setting) -> Path:
    """A policy of the second kind of weights, with the tables of the shipped one."""
    shipped = load_policy(SHIPPED_POLICIES / setting.scenario.name, setting)
    layers = ((WIDTH, 2), (2, CANDIDATES))
    weights = MlpWeights(
        tuple(np.zeros(shape, dtype=np.float32) for shape in layers),
        tuple(np.zeros(shape[1], dtype=np.float32) for shape in layers),
        "tanh",
    )
    ranges = (shipped.lowest, shipped.highest)
    policy = make_policy(setting, weights, shipped.belief, shipped.advantages, ranges, {}, 0.5)
    folder.mkdir()
    save_policy(folder, policy)
    return folder
