"""Ranges of what may cross between layers, from samples that judge nothing."""

from __future__ import annotations

import math

import numpy as np

from artefacts.arrays import Float32s
from models.codecs import Ranges
from models.codecs.affine import calibrate
from models.codecs.crossing import first
from models.codecs.tensors import NamedTensor
from models.data.datasets import Samples
from models.facts.branchy import BranchySpec
from models.facts.cards import State
from models.facts.layers import LayerSpec
from models.facts.preprocessing import Preprocessing
from models.graphs.onnx_graph import chain_model
from models.graphs.onnx_runtime import onnxruntime

CALIBRATION_PICTURES, LEAST_PICTURES = 256, 32
MOST_TENSOR_BYTES = 128 * 2**20


def calibrate_network(
    spec: BranchySpec, state: State, preprocessing: Preprocessing, samples: Samples
) -> dict[str, Ranges]:
    """Ranges of everything that may cross, by layer, from the first `CALIBRATION_PICTURES`.

    From fewer where the greatest tensor of so many would be larger than `MOST_TENSOR_BYTES`.
    `spec` and `state` are the network's architecture and weights, `samples` raw ones that
    `preprocessing` makes its input of.
    """
    found: dict[str, Ranges] = {}
    largest = max(4 * math.prod(shape) for shapes in spec.shapes for shape in shapes)
    count = max(LEAST_PICTURES, min(CALIBRATION_PICTURES, MOST_TENSOR_BYTES // largest))
    x = preprocessing.apply(samples.x[:count])
    for done in range(len(spec.trunk) + 1):
        if done:
            layer = spec.trunk[done - 1]
            x = _through(layer, state, x)
            if done < len(spec.trunk):
                found[layer.name] = calibrate(first(_gives(layer), x))
        for exit_spec in spec.exits:
            head = x
            for layer in exit_spec.head[:-1] if exit_spec.after == done else ():
                head = _through(layer, state, head)
                found[layer.name] = calibrate(first(_gives(layer), head))
    return found


def _gives(layer: LayerSpec) -> tuple[NamedTensor, ...]:
    return () if layer.segment is None else layer.segment.gives


def _through(layer: LayerSpec, state: State, x: Float32s) -> Float32s:
    """One layer on a batch, by ONNX Runtime: it knows every operator that may be captured."""
    graph = chain_model(layer.name, [layer], (x.shape[1:], layer.output_shape(x.shape[1:])), state)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = np.empty((len(x), *layer.output_shape(x.shape[1:])), dtype=np.float32)
    for k in range(0, len(x), 16):
        given[k : k + 16] = session.run(None, {"x": x[k : k + 16]})[0]
    return given
