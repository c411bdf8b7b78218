"""Captured graphs lowered to layers: exits, samples that fold, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import DependencyError, UsageError
from models.capture.export import capture
from models.capture.lower import lower
from models.facts.alexnet import alexnet
from models.graphs.onnx_graph import interval_model
from models.graphs.onnx_runtime import onnxruntime
from models.networks.mobilenet import BranchyMobileNetV2
from models.networks.network import BranchyNetwork


def run_interval(spec, state, branch, start, stop, x):
    if start == stop:
        return x
    graph = interval_model(spec, state, branch, start, stop)
    return onnxruntime.InferenceSession(graph).run(None, {"x": x})[0]


def test_lowering_keeps_exits_where_they_hang():
    torch.manual_seed(0)
    net = BranchyMobileNetV2(width=0.25).eval()
    spec, state = lower(net, torch.zeros(2, 3, 32, 32), "small")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = net(x)
    assert len(spec.exits) == 5
    assert sum(layer.segment.multiply_adds for layer in spec.trunk) > 0
    for i, branch in enumerate(spec.branches):
        found = run_interval(spec, state, i, 0, len(branch), x.numpy())
        assert np.allclose(found, expected[i].numpy(), atol=1e-5)
    # no cut in the trunk carries more than the widest tensor that a block gives
    assert all(layer.peak_bytes(()) >= 4 for layer in spec.trunk)


def test_lowering_refuses_an_exit_that_hangs_at_several_tensors():
    class TwoTensors(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            u = self.a(x).relu()
            v = self.b(x).relu()
            return [u[:, :3] - v[:, :3], self.c(u * v)]

    with pytest.raises(UsageError, match="takes 2 tensors of the trunk"):
        lower(TwoTensors().eval(), torch.zeros(2, 4), "two")


def test_the_published_alexnet_is_what_capturing_it_gives():
    """Its listed layers (Edgent's 22, dropout among them) are no second way to split a network."""
    torch.manual_seed(0)
    network = BranchyNetwork(alexnet()).eval()
    listed, state = network.spec, network.folded_state()
    captured, captured_state = lower(network, torch.zeros(2, *listed.input_shape), "alexnet")
    assert len(captured.exits) == len(listed.exits)
    x = np.random.default_rng(0).normal(size=(3, *listed.input_shape)).astype(np.float32)
    for branch in range(len(listed.exits)):
        answers = []
        for spec, weights in ((listed, state), (captured, captured_state)):
            graph = interval_model(spec, weights, branch, 0, len(spec.branches[branch]))
            answers.append(onnxruntime.InferenceSession(graph).run(None, {"x": x})[0])
        np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)
    adds = [
        sum(a.multiply_adds(s) for a, s in zip(spec.trunk, spec.shapes[-1], strict=False))
        for spec in (listed, captured)
    ]
    assert adds[0] == adds[1]
    # what may cross in the captured network crosses in the listed one too, in the same order
    crossing = iter(np.prod(s) for s in listed.shapes[-1])
    assert all(np.prod(s) in crossing for s in captured.shapes[-1])


class Folded(nn.Module):
    """Four windows of a picture become samples of their own for a while, as in Swin."""

    def __init__(self):
        super().__init__()
        self.first, self.inside = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 8)
        self.last = nn.Linear(4 * 4 * 8, 5)

    def forward(self, x):
        x = self.first(x).flatten(2)
        n = x.shape[0]
        windows = x.reshape(n * 4, 4, -1)[..., :8]
        windows = self.inside(windows).relu()
        return self.last(windows.reshape(n, -1))


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    whole = nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(),
        nn.Linear(3 * 8, 4),
    )  # fmt: skip
    return whole, (3, 2, 4)


@pytest.mark.parametrize(("module", "shape"), [(Folded(), (3, 8, 8)), encoder()])
def test_tensors_that_fold_samples_do_not_cross_and_the_rest_splits(module, shape):
    torch.manual_seed(0)
    model = capture(module.eval(), torch.zeros(2, *shape))
    for count in (1, 3):
        x = torch.rand(count, *shape)
        whole = model.whole(x)
        torch.testing.assert_close(whole, module(x))
        for cut in model.cuts:
            crossing = model.run(0, cut.at, {model.input.name: x})
            assert all(len(t) == count for t in crossing.values())
            assert all(c.sample_bytes == crossing[c.name].nbytes // count for c in cut.crossings)
            assert torch.equal(model.run(cut.at, len(model), crossing)[model.output.name], whole)
    single = [cut for cut in model.cuts if len(cut.crossings) == 1]
    assert 3 < len(single) < len(model)
    spec, state = lower(module, torch.zeros(2, *shape), "folded")
    x = torch.rand(1, *shape)
    there = x.numpy()
    for k in range(len(spec.trunk)):
        session = onnxruntime.InferenceSession(interval_model(spec, state, 0, k, k + 1))
        there = session.run(None, {"x": there})[0]
        assert there.shape == (1, *spec.shapes[0][k + 1])
    np.testing.assert_allclose(there, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_answers_that_depend_on_the_rest_of_the_batch_are_refused():
    class Mixed(nn.Module):
        def forward(self, x):
            return x.flatten(1) - x.flatten(1).mean(dim=0)

    with pytest.raises(UsageError, match="depends on the others of its batch"):
        capture(Mixed(), torch.zeros(2, 3, 4))


def test_what_cannot_be_lowered_is_named():
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x).flatten(1)

    with pytest.raises(UsageError, match="bessel_j0") as error:
        lower(Bessel(), torch.zeros(2, 3, 4), "odd")
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_torch_without_its_exporter_s_package_is_one_line(monkeypatch):
    """torch installs without onnxscript: the extra that brings it is named, not the construct."""
    monkeypatch.setattr("models.capture.onnx_export.find_spec", lambda name: None)
    with pytest.raises(DependencyError) as refused:
        lower(nn.Linear(4, 3), torch.zeros(2, 4), "mine")
    said = str(refused.value)
    assert said.startswith("model 'mine': found no package 'onnxscript', expected pip install")
    assert "[torch]" in said
