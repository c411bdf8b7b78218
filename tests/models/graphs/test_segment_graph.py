"""Cards whose operations no capture made: loops, files, other domains, bytes that are none."""

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artefacts import UsageError
from models.executors import OnnxExecutor
from models.facts.answers import VectorAnswer
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, load_model, model_digest, save_model
from models.facts.layers import LayerSpec, SegmentSpec
from models.facts.preprocessing import NamedTensor, TensorInput
from models.graphs.segment_graph import read_segment

FOUR = TensorInput((NamedTensor("x", "FP32", (4,)),))


def value(name, kind=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(*nodes, constants=(), outputs=("y",)):
    made = helper.make_graph(
        list(nodes), "g", [value("x")], [value(name) for name in outputs], list(constants)
    )
    return made.SerializeToString()


def node(kind, inputs=("x",), **more):
    return helper.make_node(kind, list(inputs), ["y"], **more)


def loop():
    """Without end: as many turns as there are whole numbers."""
    steps = [("c", "co", TensorProto.BOOL, []), ("v", "vo", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", [a], [b]) for a, b, _, _ in steps], "body",
        [value("i", TensorProto.INT64, []), *(value(a, k, s) for a, _, k, s in steps)],
        [value(b, k, s) for _, b, k, s in steps],
    )  # fmt: skip
    constants = [
        numpy_helper.from_array(np.array(2**62), "n"), numpy_helper.from_array(np.array(True), "t")
    ]  # fmt: skip
    return graph(node("Loop", ["n", "t", "x"], body=body), constants=constants)


def elsewhere(name="w"):
    """A constant that lies in a file beside whatever the process works in."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    made.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "secret.bin"), ("offset", "0"), ("length", "16")):
        made.external_data.add(key=key, value=text)
    return made


def sparse(name="w"):
    """The same, written by values and places."""
    places = helper.make_tensor("places", TensorProto.INT64, [4], range(4))
    return onnx.SparseTensorProto(values=elsewhere(name), indices=places, dims=[4])


def sparse_graph():
    """A sparse constant beside the operations, and one inside of one."""
    beside = onnx.GraphProto.FromString(graph(node("Add", ["x", "w"])))
    beside.sparse_initializer.append(sparse())
    inside = helper.make_node("Constant", [], ["w"], sparse_value=sparse())
    return beside.SerializeToString(), graph(inside, node("Add", ["x", "w"]))


def segment(operations):
    return SegmentSpec(operations, (4,), (), 1, 1)


def model(folder, operations):
    layer = LayerSpec("stretch", "segment", segment=segment(operations))
    spec = BranchySpec("planted", (4,), 4, (layer,), (ExitSpec(1),))
    card = Card(
        format_version=2, name="planted", network=spec, digest=model_digest(spec, {}), classes=(),
        dataset="made up", preprocessing=FOUR, training={}, held_back_accuracies=(),
        test_accuracies=(), answers=VectorAnswer(),
    )  # fmt: skip
    save_model(folder, {}, card)
    return load_model(folder)


def run(model):
    return OnnxExecutor(model).run(0, 0, 1, np.ones((1, 4), np.float32))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "cache"))


def test_operations_of_a_capture_are_run(tmp_path):
    assert run(model(tmp_path, graph(node("Neg")))).tolist() == [[-1.0] * 4]


HOSTILE = {
    "a loop": (loop(), "found 'Loop', expected operations of ONNX's own that have none inside"),
    "another domain": (graph(node("Gelu", domain="com.microsoft")), "found 'com.microsoft.Gelu'"),
    "a file": (graph(node("Add", ["x", "w"]), constants=[elsewhere()]),
               "found constant 'w' in a file of its own"),
    "a file inside": (graph(helper.make_node("Constant", [], ["w"], value=elsewhere("")),
                            node("Add", ["x", "w"])), "in a file of its own"),
    "a file of a sparse one": (sparse_graph()[0], "found constant 'w' in a file of its own"),
    "a file of a sparse one inside": (sparse_graph()[1], "found constant 'w' in a file of its own"),
    "no operations": (b"\xff\xfe nothing", "bytes that are no operations"),
    "nothing": (b"", "found operations of 0 inputs and 0 outputs, expected 1 and 1"),
    "two ends": (graph(node("Neg"), outputs=("y", "x")), "1 inputs and 2 outputs, expected 1 and"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_capture_makes_is_refused_before_it_is_run(tmp_path, monkeypatch, what):
    operations, said = HOSTILE[what]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.full(4, 7, "<f4").tobytes())
    planted = model(tmp_path / "planted", operations)
    with pytest.raises(UsageError) as error:
        run(planted)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="stretch"):
        read_segment("stretch", segment(operations))


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        (graph(node("Nope")), "network 'planted': found operations that cannot be run"),
        (graph(node("Reshape", ["x", "s"]), constants=[
            numpy_helper.from_array(np.array([3, 3]), "s")]),
         "exit 1, layers [0, 1): cannot be run on this input"),
    ],
)  # fmt: skip
def test_what_onnx_runtime_cannot_do_is_one_line(tmp_path, capfd, operations, said):
    with pytest.raises(UsageError) as error:
        run(model(tmp_path, operations))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == "", "a client that makes it fail would fill the log"


def test_every_constant_is_looked_at():
    lists = helper.make_attribute("values", [onnx.TensorProto(), elsewhere("deep")])
    planted = node("Neg")
    planted.attribute.append(lists)
    with pytest.raises(UsageError, match="constant 'deep' in a file"):
        read_segment("stretch", msgspec.structs.replace(segment(b""), graph=graph(planted)))
