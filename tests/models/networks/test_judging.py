from __future__ import annotations

import numpy as np
import pytest
import torch

from models.codecs import codec_named
from models.data.datasets import Pictures
from models.data.pictures import generated_pictures
from models.networks.judging import LOSSY_CODECS, judge
from models.networks.network import BranchyNetwork
from models.networks.training import exit_accuracies
from models.networks.training_data import Normalisation, plain_batches


@pytest.fixture
def judged(tiny_model):
    rng = np.random.default_rng(2)
    pictures = Pictures(
        generated_pictures(30, rng, side=8), rng.integers(0, 10, 30).astype(np.uint8)
    )
    network = BranchyNetwork(tiny_model.spec)
    network.load_folded(tiny_model.state)
    network.eval()
    return tiny_model, network, pictures, judge(tiny_model, pictures, "made up", batch=7)


def test_every_device_first_cut_is_recorded(judged):
    model, _, _, outcomes = judged
    expected = {(i, "float32", 0) for i in range(2)} | {
        (i, codec, cut)
        for i, branch in enumerate(model.spec.branches)
        for codec in LOSSY_CODECS
        for cut in range(len(branch))
    }
    assert set(outcomes.keys) == expected
    assert (outcomes.model_digest, outcomes.dataset) == (model.digest, "made up")


def test_float32_is_the_plain_network(judged):
    model, network, pictures, outcomes = judged
    normalisation = Normalisation(model.preprocessing.mean, model.preprocessing.std)
    accuracies = exit_accuracies(network, plain_batches(pictures, normalisation))
    assert [outcomes.accuracy(i) for i in range(2)] == pytest.approx(accuracies)
    with torch.inference_mode():
        logits = network(normalisation.apply(pictures.x))
    for i, scores in enumerate(logits):
        sure = torch.softmax(scores, 1).max(1).values.numpy()
        assert outcomes.confidence(i) == pytest.approx(sure, abs=0.5 / 255 + 1e-4)


@pytest.mark.parametrize("codec", LOSSY_CODECS)
def test_a_cut_is_what_the_wire_would_give_sample_by_sample(judged, codec):
    model, network, pictures, outcomes = judged
    x = torch.from_numpy(model.normalise(pictures.x))
    changed = 0.0
    for i, branch in enumerate(model.spec.branches):
        for cut in range(len(branch)):
            with torch.inference_mode():
                sent = network.run_interval(x, i, 0, cut).numpy()
                received = np.stack([_over_the_wire(codec, sample) for sample in sent])
                changed = max(changed, float(np.abs(received - sent).max()))
                scores = network.run_interval(torch.from_numpy(received), i, cut, len(branch))
            best, choice = torch.softmax(scores, 1).max(1)
            assert np.array_equal(outcomes.predicted(i, codec, cut), choice.numpy())
            assert np.array_equal(outcomes.quality_of(i, codec, cut), choice.numpy() == pictures.y)
            assert outcomes.confidence(i, codec, cut) == pytest.approx(best.numpy(), abs=0.003)
    assert changed > 1e-4  # the codec did lose something, or the test would say nothing


def _over_the_wire(codec, sample):
    encoded = codec_named(codec).encode(sample)
    return codec_named(codec).decode(encoded.meta, encoded.data, sample.shape)
