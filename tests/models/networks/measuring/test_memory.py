"""Peak activation memory: measured in a process of its own, believed by plans."""

import sys

import msgspec
import pytest

from models.networks.measuring.memory import measured_activations
from models.networks.measuring.profiling import profile_model
from models.networks.measuring.timing import ProfilingArgs

linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def shapes_say(model):
    spec = model.spec
    return {
        layer.name: layer.peak_bytes(shape)
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
        for layer, shape in zip(branch, shapes, strict=False)
    }


@linux
@pytest.mark.parametrize("executor", ["onnxruntime", "torch"])
def test_an_element_wise_layer_takes_its_input_and_output_and_a_convolution_more(executor):
    from models.facts.cards import load_model

    model = load_model("alexnet")
    found = measured_activations(model.folder, executor)
    known = shapes_say(model)
    assert found is not None
    assert found.keys() == known.keys()
    assert found["relu1"] == pytest.approx(known["relu1"], rel=0.05)
    # a convolution unfolds its input beside what it gives
    assert 1.2 * known["conv1"] < found["conv1"] < 10 * known["conv1"]
    assert all(found[name] >= known[name] for name in found)


@linux
def test_a_profile_holds_what_was_measured(tiny_model):
    taken = profile_model(tiny_model, "here", ProfilingArgs("onnxruntime", repeats=2, grid=0))
    assert taken.memory == "measured"
    known = shapes_say(tiny_model)
    for layer in taken.branches[-1]:
        assert layer.peak_memory_bytes - layer.parameter_bytes >= known[layer.name]


def test_where_it_cannot_be_measured_shapes_stand_in(tiny_model, monkeypatch):
    monkeypatch.setattr("models.networks.measuring.profiling.measured_activations", lambda *a: None)
    taken = profile_model(tiny_model, "here", ProfilingArgs("onnxruntime", repeats=2, grid=0))
    assert taken.memory == "from shapes"
    known = shapes_say(tiny_model)
    for layer in taken.branches[-1]:
        assert layer.peak_memory_bytes == layer.parameter_bytes + known[layer.name]


def test_a_folder_that_is_no_model_is_not_measured(tmp_path):
    assert measured_activations(tmp_path, "onnxruntime") is None


def test_the_memory_of_intervals_counts_a_shared_layer_once(tiny_model, monkeypatch):
    monkeypatch.setattr("models.networks.measuring.profiling.measured_activations", lambda *a: None)
    taken = profile_model(tiny_model, "here", ProfilingArgs("onnxruntime", repeats=2, grid=0))
    layers = [
        msgspec.structs.replace(layer, parameter_bytes=10, peak_memory_bytes=10 + 100 * (k + 1))
        for k, layer in enumerate(taken.branches[-1])
    ]
    made = msgspec.structs.replace(taken, branches=(*taken.branches[:-1], tuple(layers)))
    last = len(made.branches) - 1
    assert made.device_bytes((last, 0, 2)) == 20 + 200
    assert made.device_bytes((last, 0, 2), (last, 1, 3)) == 30 + 300
    assert made.device_bytes() == 0
