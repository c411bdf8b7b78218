"""Capture: every cut of every kind of network gives what the whole gives, to the last bit."""

import numpy as np
import pytest
import torch
from captured_modules import Inception, Part, Taken
from torch import nn

from artefacts import UsageError
from models.capture.export import capture
from models.capture.lower import lower
from models.graphs.onnx_graph import interval_model
from models.graphs.onnx_runtime import onnxruntime
from models.networks.network import BranchyNetwork


def test_the_whole_is_the_module_and_every_cut_is_the_whole(captured):
    module, model, shape = captured
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = module(x)
        assert torch.equal(model.whole(x), expected)
        for cut in model.cuts:
            crossing = model.run(0, cut.at, {model.input.name: x})
            assert [c.name for c in cut.crossings] == list(crossing)
            for c in cut.crossings:
                assert tuple(crossing[c.name].shape[1:]) == c.shape
            assert torch.equal(model.run(cut.at, len(model), crossing)[model.output.name], expected)


def single_cuts(model):
    return [cut for cut in model.cuts if len(cut.crossings) == 1]


def test_device_edge_device_is_the_whole(captured):
    _, model, shape = captured
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    cuts = single_cuts(model)
    with torch.inference_mode():
        expected = model.whole(x)
        for first in cuts[:: max(1, len(cuts) // 6)]:
            for second in cuts[:: max(1, len(cuts) // 6)]:
                if second.at < first.at:
                    continue
                value = model.run(0, first.at, {model.input.name: x})
                value = model.run(first.at, second.at, value)
                out = model.run(second.at, len(model), value)
                assert torch.equal(out[model.output.name], expected)


def test_a_captured_model_can_be_cut_where_one_tensor_crosses(captured):
    _, model, _ = captured
    ends = {cut.at for cut in single_cuts(model)}
    assert {0, len(model)} <= ends
    assert len(ends) > 2
    assert all(cut.sample_bytes == cut.crossings[0].sample_bytes for cut in single_cuts(model))


def test_parallel_branches_cross_together():
    model = capture(Inception(), torch.randn(2, 3, 16, 16))
    widest = max(model.cuts, key=lambda cut: len(cut.crossings))
    assert len(widest.crossings) >= 4
    assert widest.sample_bytes == sum(c.sample_bytes for c in widest.crossings)


def test_a_tensor_taken_apart_is_not_cut_in_between():
    model = capture(Taken(), torch.randn(2, 6, 4, 5))
    assert len(model.cuts) < len(model) + 1
    with pytest.raises(UsageError, match=r"found cut \d+, expected one of 0"):
        model.cut(next(k for k in range(len(model)) if k not in {c.at for c in model.cuts}))


class Decides(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return x * self.seen


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, 12)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.bias[None].expand(x.shape[0], 5) * 2.0


class Mixes(nn.Module):
    def forward(self, x):
        return x @ x.transpose(0, 1)


@pytest.mark.parametrize(
    ("module", "example", "match"),
    [
        (Decides(), torch.randn(2, 3), r"'Decides': cannot be captured: .*(data-dep|Data-dep|sum)"),
        (Counts(), torch.randn(2, 3), "changes its buffer 'seen' while it runs"),
        (FixedBatch(), torch.randn(2, 3, 4), "fixes the batch's size to 2"),
        (Constant(), torch.randn(2, 3), "found an output that does not depend on the input"),
        (Mixes(), torch.randn(2, 3), "mixes the samples of a batch"),
        (Part(Inception(), lambda y: (y, y)), torch.randn(2, 3, 16, 16), "2 outputs, expected one"),
        (Inception(), torch.randn(1, 3, 16, 16), "expected a batch of two samples or more"),
    ],
)
def test_what_cannot_be_captured_is_named(module, example, match):
    with pytest.raises(UsageError, match=match) as caught:
        capture(module, example)
    assert "\n" not in str(caught.value)
    assert module.training, "capture leaves the module as it was"


def test_an_output_that_is_not_made_of_the_input_is_not_lowered():
    with pytest.raises(UsageError, match="'odd': .*an output that does not depend on the input"):
        lower(Constant(), torch.zeros(2, 3), "odd")


def test_wrong_tensors_are_refused_by_name():
    model = capture(Inception(), torch.randn(2, 3, 16, 16))
    with pytest.raises(UsageError, match="found tensors \\['y'\\], expected 'x'"):
        model.run(0, 1, {"y": torch.zeros(1, 3, 16, 16)})
    with pytest.raises(
        UsageError, match=r"tensor 'x': found torch.float32 of shape \(1, 3, 8, 8\)"
    ):
        model.run(0, 1, {"x": torch.zeros(1, 3, 8, 8)})
    with pytest.raises(UsageError, match=r"found operations \[3, 2\)"):
        model.run(3, 2, {})


def run_interval(spec, state, branch, start, stop, x):
    if start == stop:
        return x
    graph = interval_model(spec, state, branch, start, stop)
    return onnxruntime.InferenceSession(graph).run(None, {"x": x})[0]


def test_a_lowered_network_is_the_module_and_every_cut_is_the_whole(captured):
    module, model, shape = captured
    if model.output.shape != (len(model.output.shape) and model.output.shape[0],):
        pytest.skip("gives no classes")
    spec, state = lower(module, torch.zeros(2, *shape), "lowered")
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = module(x).numpy()
    on_torch = BranchyNetwork(spec)
    on_torch.load_folded(state)
    with torch.inference_mode():
        assert np.allclose(
            on_torch.run_interval(x, 0, 0, len(spec.trunk)).numpy(), expected, atol=1e-5
        )
    layers = len(spec.trunk)
    for cut in range(layers + 1):
        value = run_interval(spec, state, 0, 0, cut, x.numpy())
        assert value.shape[1:] == spec.shapes[0][cut]
        found = run_interval(spec, state, 0, cut, layers, value)
        assert np.allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


class Tokens(nn.Module):
    """Scores of sentences of 6 words of 50; `mixes`: less what the batch has in common."""

    def __init__(self, mixes):
        super().__init__()
        self.words, self.classes, self.mixes = nn.Embedding(50, 8), nn.Linear(8, 3), mixes

    def forward(self, x):
        scores = self.classes(self.words(x).mean(1))
        return scores - scores.mean(0, keepdim=True) if self.mixes else scores


@pytest.mark.parametrize("positions", [1, 6])
def test_samples_of_whole_numbers_that_mix_are_refused(positions):
    torch.manual_seed(0)
    example = torch.randint(50, (2, positions))
    with pytest.raises(UsageError, match="depends on the others of its batch"):
        capture(Tokens(mixes=True), example, "tokens")
    module = Tokens(mixes=False).eval()
    captured = capture(module, example, "tokens")
    with torch.inference_mode():
        assert torch.allclose(captured.whole(example), module(example), atol=1e-6)


def test_an_example_of_whole_numbers_shows_what_is_valid():
    """Only values that stand in the example are tried: 49 is the last word."""
    torch.manual_seed(0)
    capture(Tokens(mixes=False), torch.tensor([[49, 0], [3, 0]]), "tokens")
    with pytest.raises(UsageError, match=r"torch\.int64 whose samples are all the same"):
        capture(Tokens(mixes=False), torch.zeros(2, 6, dtype=torch.int64), "tokens")
