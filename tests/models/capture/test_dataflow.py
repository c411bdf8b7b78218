"""Where an ONNX graph can be cut: what crosses alone, and with small tensors beside it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artefacts import UsageError
from models.capture.dataflow import Dataflow

WIDTH = 64


def weights(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def graph(beside: str) -> Dataflow:
    """Two products with something beside them: a mask of the input, or as much as they give."""
    made = {
        "mask": [
            helper.make_node("Cast", ["x"], ["held"], to=TensorProto.BOOL),
            helper.make_node("Cast", ["held"], ["wide"], to=TensorProto.FLOAT),
        ],
        "product": [helper.make_node("MatMul", ["x", "other"], ["wide"])],
    }[beside]
    nodes = [
        *made,
        helper.make_node("MatMul", ["x", "one"], ["first"]),
        helper.make_node("MatMul", ["first", "two"], ["second"]),
        helper.make_node("ReduceSum", ["wide"], ["total"], keepdims=1),
        helper.make_node("Add", ["second", "total"], ["y"]),
    ]
    shape = ["N", 4, 8]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, WIDTH])],
            [weights("one", 8, WIDTH), weights("two", WIDTH, WIDTH), weights("other", 8, WIDTH)],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    return Dataflow.of(proto, "g")


def test_what_is_made_of_the_input_alone_crosses_as_its_smallest_form():
    flow = graph("mask")
    # 32 bits in the place of the numbers that they become
    assert flow.crossing({"first", "wide"}) == ("first", "held")
    assert flow.part("held").datatype == "BOOL"
    assert flow.part("held").packed_bytes == 4


def test_a_tensor_alone_crosses_alone():
    assert graph("mask").crossing({"second"}) == ("second",)


def test_two_large_tensors_cannot_cross_together():
    assert graph("product").crossing({"first", "wide"}) == ()


def test_cuts_list_what_crosses_and_what_exits_take_crosses_too():
    flow = graph("mask")
    nodes = list(range(len(flow.nodes)))
    cuts = flow.cuts(nodes, ("x",), "y", {}, most=8)
    assert cuts[0] == ("x",)
    assert cuts[-1] == ("y",)
    assert ("first", "held") in cuts
    with_exit = flow.cuts(nodes, ("x",), "y", {"first": ("first", "x")}, most=8)
    assert ("first", "held", "x") in with_exit


def test_exits_where_nothing_can_cross_are_refused():
    flow = graph("product")
    with pytest.raises(UsageError, match="found exits at first, expected them where"):
        flow.cuts(list(range(len(flow.nodes))), ("x",), "y", {"first": ("first",)}, most=8)
