"""Device [0, a) + edge [a, b) + device [b, N) is the whole branch, for every plan."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from artefacts import UsageError
from models.data.pictures import generated_pictures
from models.facts.cards import load_model
from models.facts.layers import LayerSpec
from models.networks.network import BranchyNetwork, ChannelNorm


@pytest.fixture(scope="module")
def shipped():
    model = load_model("alexnet")
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval()
    x = model.normalise(generated_pictures(2, np.random.default_rng(3)))
    return network, torch.from_numpy(x)


@pytest.mark.parametrize("branch", range(5))
def test_every_plan_equals_the_whole_branch(shipped, branch):
    network, x = shipped
    stop = len(network.spec.branches[branch])
    with torch.inference_mode():
        whole = network(x)[branch]
        for a in range(stop + 1):
            device = network.run_interval(x, branch, 0, a)
            for b in range(a, stop + 1):
                edge = network.run_interval(device, branch, a, b)
                answer = network.run_interval(edge, branch, b, stop)
                assert torch.allclose(answer, whole, rtol=0, atol=1e-5), (a, b)


def test_every_plan_of_a_network_with_all_kinds_of_layers(tiny_model):
    network = BranchyNetwork(tiny_model.spec)
    network.load_folded(tiny_model.state)
    network.eval()
    x = torch.from_numpy(
        tiny_model.normalise(generated_pictures(3, np.random.default_rng(3), side=8))
    )
    with torch.inference_mode():
        for branch, whole in enumerate(network(x)):
            stop = len(network.spec.branches[branch])
            for a in range(stop + 1):
                for b in range(a, stop + 1):
                    y = network.run_interval(network.run_interval(x, branch, 0, a), branch, a, b)
                    answer = network.run_interval(y, branch, b, stop)
                    assert torch.allclose(answer, whole, rtol=0, atol=1e-5), (branch, a, b)


def test_a_tensor_of_another_layer_is_refused(shipped):
    network, x = shipped
    with pytest.raises(UsageError, match=r"exit 2, layer 3: found a batch of shape \(2, 3, 32, 32"):
        network.run_interval(x, 1, 3, 5)


def test_folded_batch_norm_equals_unfolded(tiny_spec):
    torch.manual_seed(1)
    network = BranchyNetwork(tiny_spec, batch_norm=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_(0.5, 0.4)
            module.running_var.uniform_(0.3, 2.0)
    network.eval()
    plain = BranchyNetwork(tiny_spec)
    plain.load_folded(network.folded_state())
    plain.eval()
    x = torch.randn(4, *tiny_spec.input_shape)
    with torch.inference_mode():
        for unfolded, folded in zip(network(x), plain(x), strict=True):
            assert unfolded.abs().max() > 0.1
            assert torch.allclose(unfolded, folded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 4, 4), (2, 7)])
def test_channel_norm_is_torchs_local_response_norm(size, shape):
    layer = LayerSpec("n", "lrn", size=size, alpha=0.3, beta=0.75, k=1.5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    images = x.reshape(*shape, *(1,) * (4 - len(shape)))
    expected = torch.nn.LocalResponseNorm(size, 0.3, 0.75, 1.5)(images).reshape(shape)
    assert torch.allclose(ChannelNorm(layer)(x), expected, rtol=1e-5, atol=1e-6)


def test_what_a_device_imports_is_torch_free():
    code = (
        "import sys, models.facts.cards, models.facts.outcomes, models.facts.profiles, "
        "models.facts.reference, models.facts.regression, models.facts.alexnet, models.codecs, "
        "models.data.pictures, models.data.datasets; "
        "models.facts.cards.load_model('alexnet'); "
        "print([m for m in ('torch', 'gymnasium', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
