"""int8 intervals: close to float32, cut like it, cached by digest, refused for other models."""

import msgspec
import numpy as np
import onnx
import pytest

from artefacts import ArtefactError, UsageError
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor
from models.graphs.graph_cache import cached_graph
from models.graphs.onnx_runtime import onnxruntime
from models.graphs.quantisation import (
    observe_activations,
    quantised_interval,
    read_activations,
    save_activations,
)

GRAPH = onnx.helper.make_model(
    onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
).SerializeToString()


@pytest.fixture
def seen(tiny_model):
    pictures = generated_pictures(40, np.random.default_rng(0), side=8)
    found = observe_activations(tiny_model, pictures)
    save_activations(tiny_model.folder, found)
    return pictures, found


def test_int8_stays_close_and_is_int8(tiny_model, seen):
    pictures, activations = seen
    x = tiny_model.normalise(pictures)
    plain, small = OnnxExecutor(tiny_model), OnnxExecutor(tiny_model, precision="int8")
    for branch, layers in enumerate(tiny_model.spec.branches):
        expected = plain.run(branch, 0, len(layers), x)
        found = small.run(branch, 0, len(layers), x)
        assert not np.array_equal(found, expected)
        assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    graph = onnx.ModelProto.FromString(quantised_interval(tiny_model, activations, 1, 0, 8))
    kinds = {t.data_type for t in graph.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_int8_intervals_join_up(tiny_model, seen):
    pictures, activations = seen
    x = tiny_model.normalise(pictures[:4])
    for cut in range(1, 8):
        parts = [quantised_interval(tiny_model, activations, 1, *i) for i in ((0, cut), (cut, 8))]
        value = x
        for part in parts:
            value = onnxruntime.InferenceSession(part).run(None, {"x": value})[0]
        whole = onnxruntime.InferenceSession(quantised_interval(tiny_model, activations, 1, 0, 8))
        expected = whole.run(None, {"x": x})[0]
        assert np.abs(value - expected).mean() < 0.1 * np.abs(expected).mean()


def test_ranges_of_another_model_are_refused(tiny_model, seen):
    _, activations = seen
    save_activations(tiny_model.folder, msgspec.structs.replace(activations, model_digest="0" * 64))
    with pytest.raises(ArtefactError, match="field 'model_digest'"):
        read_activations(tiny_model)
    with pytest.raises(UsageError, match="precision: found 'int3'"):
        OnnxExecutor(tiny_model, precision="int3")


def test_graphs_are_made_once_and_a_broken_cache_is_done_without(tmp_path, monkeypatch):
    made = []

    def make():
        made.append(1)
        return GRAPH

    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "cache"))
    assert [cached_graph("d" * 64, "a", make) for _ in range(3)] == [GRAPH] * 3
    assert len(made) == 1
    (entry,) = (tmp_path / "cache").rglob("*.onnx")
    entry.write_bytes(GRAPH[:-3])
    assert cached_graph("d" * 64, "a", make) == GRAPH
    assert entry.read_bytes().endswith(GRAPH)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "file"))
    assert cached_graph("d" * 64, "a", make) == GRAPH
    assert len(made) == 3
