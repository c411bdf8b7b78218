"""A made scenario whose network answers vectors: quality lies between 0 and 1."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from controller.scenarios import load_setting, read_scenario
from models.facts.answers import VectorAnswer
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, expected_shapes, model_digest, save_model
from models.facts.layers import LayerSpec
from models.facts.outcomes import Outcomes, save_outcomes
from models.facts.preprocessing import PictureInput
from models.facts.profiles import LayerProfile, Profile, write_profile

SAMPLES = 60
CONSTANT, LOSSY = 0.25, 0.125
"""Quality of every answer of the first exit, and of every answer behind a lossy codec."""
LAYER_S = {"device": 0.01, "edge": 0.001}
"""Seconds of each layer, on either machine."""
SCENARIO = """
format_version = 1
name = "vectors"
kind = "frame-stream"
description = "a network that answers vectors"
network = "network"
device_profile = "device.json"
edge_profile = "edge.json"

[traces]
family = "norway"

[frames]
rate_fps = 10.0
deadline_s = 0.08

[link]
rtt_s = 0.01

[reward]
device_second = {price}

[plans]
codecs = ["int8"]
"""


def made_network():
    """Four layers; an exit after the second, and the last."""
    trunk = (
        LayerSpec("conv1", "conv", channels=4, kernel=3, padding=1),
        LayerSpec("relu1", "relu"),
        LayerSpec("flat", "flatten"),
        LayerSpec("fc2", "fc", channels=6),
    )
    head = (LayerSpec("exit1.flat", "flatten"), LayerSpec("exit1.fc", "fc", channels=6))
    return BranchySpec("vectors", (3, 6, 6), 6, trunk, (ExitSpec(2, head), ExitSpec(4)))


def made_quality(seed=3):
    """{(exit, codec, cut): (S,)}: of the last exit anything, of halves that float16 holds."""
    rng = np.random.default_rng(seed)
    spec, rows = made_network(), {}
    for exit_, branch in enumerate(spec.branches):
        plain = np.full(SAMPLES, CONSTANT) if exit_ == 0 else rng.random(SAMPLES)
        rows[exit_, "float32", 0] = plain.astype(np.float16).astype(np.float64)
        for cut in range(len(branch)):
            rows[exit_, "int8", cut] = np.full(SAMPLES, LOSSY)
    return rows


def made_profile(name, spec):
    """Every layer of every branch takes the machine's seconds."""

    def layer(one, shape):
        values = int(np.prod(shape))
        return LayerProfile(one.name, one.kind, LAYER_S[name], LAYER_S[name], 1, shape,
                            4 * values, 0, 4 * values)  # fmt: skip

    branches = tuple(
        tuple(layer(one, shape) for one, shape in zip(branch, shapes[1:], strict=True))
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
    )
    return Profile(1, name, spec.name, spec.digest, "made", 1, None, None, "made up", 0.0, 1.0,
                   branches)  # fmt: skip


def made_setting(folder: Path, price=0.0):
    """The scenario written into `folder`, and loaded with every plan that there is, also those not
    worth choosing; `price` of a device second."""
    spec = made_network()
    rng = np.random.default_rng(1)
    state = {
        name: rng.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in expected_shapes(spec).items()
    }
    digest = model_digest(spec, state)
    card = Card(2, spec.name, spec, digest, (), "made up", PictureInput(), {}, (), (),
                answers=VectorAnswer())  # fmt: skip
    save_model(folder / "network", state, card)
    rows = made_quality()
    quality = np.stack(list(rows.values())).astype(np.float16)
    sure = np.zeros(quality.shape, dtype=np.uint8)
    outcomes = Outcomes(digest, "made up", tuple(rows), quality, sure)
    save_outcomes(folder / "network" / "outcomes.npz", outcomes)
    for name in LAYER_S:
        write_profile(folder / f"{name}.json", made_profile(name, spec))
    (folder / "scenario.toml").write_text(SCENARIO.replace("{price}", str(price)))
    setting = load_setting(read_scenario(str(folder / "scenario.toml")))
    return replace(setting, table=setting.candidates)
