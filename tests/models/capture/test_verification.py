"""A network that was cut is the torch module, or it is refused by the first stretch that is not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn import functional

from artefacts import UsageError
from models.capture.comparison import TOLERANCE, difference
from models.capture.lower import export_onnx, lower, lower_stretch, lower_verified
from models.capture.onnx_export import to_onnx
from models.capture.reference import ModuleReference
from models.capture.verification import sample_batches, verify, verify_answers
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import load_model
from models.facts.layers import LayerSpec
from models.graphs.onnx_graph import interval_model
from models.graphs.onnx_runtime import onnxruntime
from models.networks.network import BranchyNetwork, LayersReference, folded_network

SHAPE = (3, 24, 32)
EXAMPLE = torch.zeros(2, *SHAPE)


class Does(nn.Module):
    """Three named convolutions with any function after the second."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.third, self.end, self.function = nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 5), function

    def forward(self, x):
        x = self.function(self.second(self.first(x).relu()))
        return self.end(self.third(x).relu().mean((2, 3)))


def pooled(x, **options):
    return functional.avg_pool2d(x, 3, 2, 1, divisor_override=4, **options)


def three_sided(x):
    return functional.avg_pool3d(x[:, None], (1, 3, 3), (1, 2, 2), divisor_override=5)[:, 0]


# what torch's exporter (2.13) writes otherwise than torch computes it, without a word
WRONG = {
    "divisor and ceil_mode": lambda x: pooled(x, ceil_mode=True),
    "divisor of three sides": three_sided,
    "log-sigmoid of large numbers": lambda x: functional.logsigmoid(100.0 * x),
}


def test_bad_rounding_hides_no_wrong_lowering():
    """Beside a term that float32 cannot compute, a wrong pooling must not pass as rounding."""

    def noisy(x):
        y = pooled(x, ceil_mode=True)
        return y + 0.3 * torch.sin(1e7 * y)

    with pytest.raises(UsageError, match=r"differs from the module by [01]\.\d+ of the greatest"):
        lower(Does(noisy), EXAMPLE, "noisy")


@pytest.mark.parametrize("function", WRONG.values(), ids=WRONG)
def test_what_the_exporter_gets_wrong_is_refused_with_the_stretch(function):
    module = Does(function).eval()
    with pytest.raises(UsageError) as caught:
        lower(module, EXAMPLE, "odd")
    said = str(caught.value)
    assert "model 'odd': stretch 'second' differs from the module by " in said
    assert "of the greatest score, expected at most 0.0001" in said
    assert "\n" not in said
    alone = nn.Sequential(module.second, Function(function))
    for refused in (lower_stretch, export_onnx):
        with pytest.raises(UsageError, match="'part' differs from the module by"):
            refused(alone, torch.zeros(2, 8, 12, 16), "part")


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def padded_before_a_pool(x):
    return functional.max_pool2d(functional.pad(x - 4.0, (0, 1, 0, 1)), 3, 2)


@pytest.mark.parametrize("function", [pooled, padded_before_a_pool])
def test_what_could_be_wrong_and_is_written_otherwise_is_the_module(function):
    """torch's exporter drops the divisor; ONNX Runtime pads a max pooling with minus infinity."""
    module = Does(function).eval()
    spec, state, found = lower_verified(module, EXAMPLE, "right")
    assert found.exits < 1e-5
    assert found.matched == found.crossings == len(spec.trunk)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    graph = interval_model(spec, state, 0, 0, len(spec.trunk))
    got = onnxruntime.InferenceSession(graph).run(None, {"x": x.numpy()})[0]
    assert difference(got, module(x).detach().numpy()) < 1e-5


class Exits(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 3, 2, 1) for n in (3, 8, 8))
        self.early, self.end = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        x = self.b(self.a(x).relu()).relu()
        return [self.early(x.mean((2, 3))), self.end(self.c(x).relu().mean((2, 3)))]


@pytest.fixture(scope="module")
def lowered():
    module = Exits().eval()
    made = to_onnx(module, EXAMPLE, "exits")
    spec, state = lower(module, EXAMPLE, "exits")
    return spec, state, ModuleReference(module, made.program)


def test_a_network_with_exits_is_verified_at_all_of_them(lowered):
    spec, state, reference = lowered
    found = verify(spec, state, reference, sample_batches(SHAPE))
    assert 0.0 < found.exits < 1e-5
    assert found.matched == found.crossings == len(spec.trunk) + len(spec.exits[0].head)


@pytest.mark.parametrize("share", [2e-3, 1.0])
def test_a_weight_that_is_not_the_modules_is_found_where_it_stands(lowered, share):
    spec, state, reference = lowered
    heads = [layer for exit_spec in spec.exits for layer in exit_spec.head]
    weighted = [layer for layer in (*spec.trunk, *heads) if layer.segment.weights]
    assert len(weighted) >= 4
    for layer in weighted:
        keys = [f"{layer.name}.{key}" for key, shape in layer.segment.weights if len(shape) > 1]
        changed = state | {keys[0]: state[keys[0]] * np.float32(1.0 + share)}
        with pytest.raises(UsageError, match=f"'exits': stretch '{layer.name}' differs from the"):
            verify(spec, changed, reference, sample_batches(SHAPE))


def test_what_is_no_graph_for_onnx_runtime_is_one_line():
    def wide(x):
        return functional.conv2d(x.double(), torch.ones(8, 8, 3, 3).double()).float()

    with pytest.raises(UsageError, match=r"stretch '\w+': ONNX Runtime cannot run it: .*Conv"):
        lower(Does(wide).eval(), EXAMPLE, "wide")


def test_every_answer_is_held_against_the_module(lowered):
    spec, state, reference = lowered
    x = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(3))
    assert verify_answers(spec, state, reference.module, [x[:5], x[5:]]) < 1e-5
    other = Exits().eval()
    with torch.no_grad():
        other.end.bias[2] += 0.5
    with pytest.raises(UsageError, match="exit 2 as one graph, pictures 0 to 4, differs from"):
        verify_answers(spec, state, other, [x[:5], x[5:]])


def test_rounding_of_the_module_itself_is_no_fault():
    """Small differences of large numbers: in torch, too, float32 is off by more."""

    def cancelled(x):
        # sums of large numbers: what is left of their mean depends on the order of the additions
        return x + (x + 2.2e3).mean((2, 3), keepdim=True) - 2.2e3

    module = Does(cancelled).eval()
    x = sample_batches(SHAPE)[0]
    reference = ModuleReference(module, to_onnx(module, EXAMPLE, "cancelled").program)
    exits, inside = reference.rounding(x)
    assert exits[0] > TOLERANCE
    assert max(inside.values()) > TOLERANCE
    _, _, found = lower_verified(module, EXAMPLE, "cancelled")
    assert found.exits > TOLERANCE
    plain = Does(torch.relu).eval()
    reference = ModuleReference(plain, to_onnx(plain, EXAMPLE, "plain").program)
    exits, inside = reference.rounding(x)
    assert 0.0 < max(exits + list(inside.values())) < 1e-5


def test_samples_are_of_one_and_of_three_and_real_ones_where_there_are_any():
    real = torch.rand(9, *SHAPE)
    batches = sample_batches(SHAPE, real)
    assert [len(b) for b in batches] == [1, 3, 1, 3, 1, 3]
    assert torch.equal(batches[-1], real[:3])
    assert [len(b) for b in sample_batches((7,), torch.rand(1, 7))] == [1, 3, 1, 3, 1]
    # a grey network's are pictures, too: smooth, neighbours alike
    grey, noise = (b[0] for b in sample_batches((1, 24, 32))[::2])
    assert grey.shape == (1, 24, 32)
    assert (grey.diff(dim=2).abs().mean() < 0.2 * noise.diff(dim=2).abs().mean()).item()
    assert all(b.shape[1:] == SHAPE and b.dtype is torch.float32 for b in batches)


numbers = arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32))


@settings(max_examples=60, deadline=None)
@given(numbers, st.sampled_from([0.25, 4.0, 1024.0]))
def test_differences_are_shares_of_the_greatest_value(x, factor):
    assert difference(x, x) == 0.0
    moved = x.copy()
    moved[1, 2] += np.float32(1.0)
    if np.abs(x).max() < 1e-3:
        assert difference(moved, x) > 100
        return
    found = difference(moved, x)
    assert found == pytest.approx(float(moved[1, 2] - x[1, 2]) / np.abs(x).max(), rel=1e-3, abs=0)
    assert difference(moved * factor, x * factor) == pytest.approx(found, rel=1e-3)
    odd = x.copy()
    odd[0, 0] = np.nan
    assert difference(odd, odd) == 0.0
    assert difference(x, odd) == difference(odd, x) == float("inf")
    assert difference(x[:2], x) == float("inf")


def layers(**changed):
    listed = [
        LayerSpec("conv", "conv", channels=6, kernel=3, padding=1),
        LayerSpec("relu", "relu"),
        LayerSpec("lrn", "lrn", **{"size": 3, "alpha": 0.5} | changed),
        LayerSpec("pool", "pool", kernel=3, stride=2, padding=1, pool_mode="avg"),
        LayerSpec("fc", "fc", channels=4),
    ]
    head = (LayerSpec("exit1.fc", "fc", channels=4),)
    return BranchySpec("listed", (3, 8, 8), 4, tuple(listed), (ExitSpec(2, head), ExitSpec(5)))


def seen_network(spec):
    torch.manual_seed(0)
    network = BranchyNetwork(spec, batch_norm=True)
    with torch.no_grad():
        network(2.0 * torch.randn(16, *spec.input_shape) + 1.0)
    return network.eval()


def test_listed_layers_are_verified_with_their_normalisation_folded():
    network = seen_network(layers())
    spec, state = folded_network(network)
    assert state["conv.weight"].shape == (6, 3, 3, 3)
    for name in ("conv", "exit1.fc", "fc"):
        key = f"{name}.bias"
        changed = state | {key: state[key] + np.float32(0.1)}
        with pytest.raises(UsageError, match=f"'listed': stretch '{name}' differs from the mod"):
            verify(spec, changed, LayersReference(network), sample_batches(spec.input_shape))


def test_a_layer_that_onnx_runtime_does_not_know_is_named():
    """An even window of channels, which torch takes."""
    with pytest.raises(UsageError, match="'listed': stretch 'lrn': ONNX Runtime cannot run it"):
        folded_network(seen_network(layers(size=4)))


@pytest.mark.parametrize("name", ["alexnet", "mobilenetv2"])
def test_the_shipped_graphs_are_what_torch_makes_of_their_layers(name):
    model = load_model(name)
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    batches = sample_batches(model.spec.input_shape)[:2]
    found = verify(model.spec, model.state, LayersReference(network), batches)
    assert found.exits < 1e-5
    assert found.matched == found.crossings
