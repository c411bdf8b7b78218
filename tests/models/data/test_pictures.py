from __future__ import annotations

import numpy as np

from models.data.datasets import Pictures
from models.data.pictures import generated_pictures
from models.facts.answers import ClassAnswer
from models.facts.cards import load_model
from models.facts.judges import own_labels
from models.networks.training import exit_accuracies
from models.networks.training_data import Normalisation, plain_batches


def test_pictures_follow_their_generator():
    one = generated_pictures(4, np.random.default_rng(7))
    assert one.shape == (4, 32, 32, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, generated_pictures(4, np.random.default_rng(7)))
    assert not np.array_equal(one, generated_pictures(4, np.random.default_rng(8)))
    assert generated_pictures(0, np.random.default_rng(0)).shape == (0, 32, 32, 3)


def test_pictures_are_smooth_and_differ():
    x = generated_pictures(40, np.random.default_rng(1)).astype(float)
    steps = np.abs(np.diff(x, axis=1)).mean()
    assert steps < 0.25 * x.std()  # white noise gives 1.13 times its deviation
    assert x.std(axis=0).mean() > 20
    assert x.std(axis=(1, 2)).mean() > 10


def test_the_shipped_network_tells_generated_pictures_apart():
    import torch

    from models.networks.network import BranchyNetwork

    model = load_model("alexnet")
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval()

    def logits(x):
        with torch.inference_mode():
            return network.run_interval(torch.from_numpy(model.normalise(x)), 4, 0, 22).numpy()

    x = generated_pictures(60, np.random.default_rng(11))
    labels = own_labels(ClassAnswer(), logits(x))
    assert len(np.unique(labels)) >= 4
    normalisation = Normalisation(model.preprocessing.mean, model.preprocessing.std)
    agreement = exit_accuracies(network, plain_batches(Pictures(x, labels), normalisation))
    assert agreement[4] == 1.0
    assert 0.2 < agreement[0] < 1.0
