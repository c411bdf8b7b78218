"""Policies that somebody made to do harm: refused in one line as they are loaded, soon."""

import itertools
import os
import warnings

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, digest_bytes, read_bytes
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.arrays import MOST_BYTES, packed, read_arrays
from controller.policies.generalist import load_generalist
from controller.policies.learned import LearnedController
from controller.policies.network import load_policy
from controller.policies.observation import CANDIDATES, MOST_OBSERVED, WIDTH
from controller.policies.weights import (
    ACTIVATIONS,
    MOST_PRODUCTS,
    MOST_SCORE,
    MlpWeights,
    ScorerWeights,
)
from experiments.robustness.plain_policy import plain_policy


@pytest.fixture
def policy(tmp_path, stream):
    """A policy of format 5, and `change(card, arrays)` that writes it with other fields."""
    folder = plain_policy(tmp_path / "policy", stream)

    def change(card=None, arrays=None):
        there = read_arrays(folder / "policy.npz") | (arrays or {})
        raw = packed(there)
        (folder / "policy.npz").write_bytes(raw)
        given = msgspec.json.decode((folder / "policy.json").read_bytes())
        given |= {"weights_digest": digest_bytes(raw)} | (card or {})
        (folder / "policy.json").write_bytes(msgspec.json.encode(given))
        return folder

    return change


def layers(*widths, fill=0.0):
    """Arrays of a plain network with these hidden layers."""
    sizes, found = (WIDTH, *widths, CANDIDATES), {}
    for k, pair in enumerate(itertools.pairwise(sizes)):
        found[f"layer_{k}_matrix"] = np.full(pair, fill, np.float32)
        found[f"layer_{k}_bias"] = np.full(pair[1:], fill, np.float32)
    return found


@pytest.mark.parametrize(
    ("fill", "found"),
    [
        (np.nan, "NaN or inf"),
        (np.inf, "NaN or inf"),
        (1e30, "scores that may come to 1e.63"),
        (-1e30, "scores that may come to 1e.63"),
        (3e38, "scores that may come to"),
    ],
)
def test_weights_that_come_of_no_training_are_refused(policy, stream, fill, found):
    folder = policy(arrays=layers(2, fill=fill))
    with pytest.raises(ArtefactError, match=rf"policy.npz, field '\w+': found {found}.*expected"):
        load_policy(folder, stream)


@pytest.mark.parametrize("widths", [[100_000, 100_000], [10**18], [4097], [2] * 9, [0], [-1]])
def test_layers_that_are_only_said_are_refused_before_anything_is_made(policy, stream, widths):
    folder = policy(card={"network": {"widths": widths, "activation": "tanh"}})
    with pytest.raises(ArtefactError, match=r"policy.json, field 'network.widths.*expected"):
        load_policy(folder, stream)


def test_layers_that_are_there_and_take_long_are_refused(policy, stream):
    width = int(MOST_PRODUCTS**0.5)
    arrays = layers(width, width)
    assert sum(one.nbytes for one in arrays.values()) < MOST_BYTES
    card = {"network": {"widths": [width, width], "activation": "relu"}}
    with pytest.raises(ArtefactError, match="multiplications a decision, expected at most"):
        load_policy(policy(card, arrays), stream)


def test_a_scorer_that_takes_long_is_refused(tmp_path):
    folder = tmp_path / "generalist"
    folder.mkdir()
    card = msgspec.json.decode((SHIPPED_GENERALIST / "generalist.json").read_bytes())
    arrays = read_arrays(SHIPPED_GENERALIST / "generalist.npz")
    hidden = 1000
    for name, one in list(arrays.items()):
        if name.startswith("weights_") and name != "weights_sharpness":
            sizes = [hidden if n == card["hidden"] else n for n in one.shape]
            arrays[name] = np.zeros(sizes, np.float32)
    raw = packed(arrays)
    (folder / "generalist.npz").write_bytes(raw)
    card |= {"hidden": hidden, "weights_digest": digest_bytes(raw)}
    (folder / "generalist.json").write_bytes(msgspec.json.encode(card))
    with pytest.raises(ArtefactError, match="multiplications a decision, expected at most"):
        load_generalist(folder)


def test_a_belief_that_believes_hardly_anything_is_refused(policy, stream):
    """Of 250 alike levels each is a little below what planning takes for none."""
    levels, there = 250, read_arrays(policy() / "policy.npz")
    grids = there["advantages_table"].shape
    arrays = {
        "belief_rates_bps": np.linspace(1e4, 1e8, levels),
        "belief_edges_bps": np.linspace(2e4, 9e7, levels - 1),
        "belief_kernels": np.full((len(there["belief_lags_s"]), levels, levels), 1 / levels,
                                  np.float32),
        "advantages_table": np.zeros((*grids[:5], levels, grids[6]), np.float16),
    }  # fmt: skip
    with pytest.raises(ArtefactError, match="'belief_kernels': found .* few levels"):
        load_policy(policy(arrays=arrays), stream)


@pytest.mark.parametrize("name", ["policy.json", "policy.npz"])
def test_a_file_without_end_is_refused(policy, stream, name):
    folder = policy()
    os.truncate(folder / name, 2**40)
    with pytest.raises(ArtefactError, match=rf"{name}: found a file of more than"):
        load_policy(folder, stream)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ArtefactError, match=rf"{name}: found a pipe, expected a file"):
        load_policy(folder, stream)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_let_in_gives_numbers_whatever_is_observed(activation):
    fill = np.float32(4e9)  # three layers of it come close to the bound
    sizes = ((WIDTH, 2), (2, 2), (2, CANDIDATES))
    weights = MlpWeights(
        tuple(np.full(size, fill) for size in sizes),
        tuple(np.full(size[1], -fill) for size in sizes),
        activation,
    )
    assert MOST_SCORE / 1e3 < weights.most_score() < MOST_SCORE * 1e3
    rows = np.stack([np.full(WIDTH, s * MOST_OBSERVED, np.float32) for s in (-1.0, 0.0, 1.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = weights.outputs(rows)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= weights.most_score()).all()


@pytest.mark.parametrize("folder", [*sorted(SHIPPED_POLICIES.glob("*/policy.npz"))], ids=str)
def test_shipped_policies_are_far_from_the_bounds(folder):
    arrays = read_arrays(folder)
    named = {name.removeprefix("weights_"): one for name, one in arrays.items()}
    weights = ScorerWeights(**{name: named[name] for name in ScorerWeights.__slots__})
    assert weights.products < MOST_PRODUCTS / 4
    assert weights.most_score() < 1e9
    assert len(read_bytes(folder, MOST_BYTES)) < MOST_BYTES / 4


def test_a_scorer_s_scores_stay_below_what_it_says(stream):
    policy = load_policy(SHIPPED_POLICIES / stream.scenario.name, stream)
    assert LearnedController(policy, stream).policy is policy
    rng = np.random.default_rng(0)
    rows = rng.uniform(-MOST_OBSERVED, MOST_OBSERVED, (500, WIDTH)).astype(np.float32)
    rows[:, -CANDIDATES:] = 1.0
    assert np.abs(policy.scores(rows)).max() <= policy.weights.most_score()
