"""Every layer interval as an ONNX graph computes what torch computes."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from artefacts import UsageError
from models.data.pictures import generated_pictures
from models.facts.cards import load_model
from models.graphs.onnx_graph import interval_model
from models.graphs.onnx_runtime import onnxruntime
from models.networks.network import BranchyNetwork

pytestmark = pytest.mark.system


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def network_of(model):
    network = BranchyNetwork(model.spec)
    network.load_folded(model.state)
    network.eval()
    return network


def equal_on_every_interval(model, batch, side):
    network = network_of(model)
    pictures = generated_pictures(batch, np.random.default_rng(11), side=side)
    x = model.normalise(pictures)
    checked = 0
    for branch, layers in enumerate(model.spec.branches):
        before = torch.from_numpy(x)
        for start in range(len(layers) + 1):
            for stop in range(start, len(layers) + 1):
                with torch.inference_mode():
                    expected = network.run_interval(before, branch, start, stop).numpy()
                graph = interval_model(model.spec, model.state, branch, start, stop)
                (found,) = session(graph).run(None, {"x": before.numpy()})
                assert found.shape == expected.shape
                scale = max(1.0, float(np.abs(expected).max()))
                assert np.abs(found - expected).max() <= 1e-5 * scale, (branch, start, stop)
                checked += 1
            if start < len(layers):
                with torch.inference_mode():
                    before = network.run_interval(before, branch, start, start + 1)
    return checked


def test_every_interval_of_a_network_with_all_kinds_of_layers(tiny_model):
    # n layers have (n + 1)(n + 2) / 2 intervals, the empty ones counted: 6 and 8 layers
    assert equal_on_every_interval(tiny_model, batch=3, side=8) == 28 + 45


def test_every_interval_of_the_shipped_network():
    assert equal_on_every_interval(load_model("alexnet"), batch=2, side=32) == (
        91 + 153 + 210 + 231 + 276
    )


def test_the_batch_is_free_and_a_sample_does_not_see_its_neighbours(tiny_model):
    run = session(interval_model(tiny_model.spec, tiny_model.state, 1, 0, 8))
    x = np.random.default_rng(2).normal(size=(5, 3, 8, 8)).astype(np.float32)
    (together,) = run.run(None, {"x": x})
    for k in range(5):
        (alone,) = run.run(None, {"x": x[k : k + 1]})
        assert alone[0] == pytest.approx(together[k], abs=1e-5)


def test_graphs_are_valid_and_name_their_shapes(tiny_model):
    model = onnx.load_from_string(interval_model(tiny_model.spec, tiny_model.state, 0, 1, 5))
    onnx.checker.check_model(model, full_check=True)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("N", [6, 8, 8])


def test_an_interval_that_is_not_there_is_named(tiny_model):
    with pytest.raises(UsageError, match=r"exit 2: found layers \[3, 99\)"):
        interval_model(tiny_model.spec, tiny_model.state, 1, 3, 99)


def test_neither_codecs_nor_graphs_import_torch():
    code = (
        "import sys, models.codecs, models.graphs.onnx_graph\n"
        "sys.exit('torch imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
