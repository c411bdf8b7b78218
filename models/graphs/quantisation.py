"""int8 intervals: static quantisation (QDQ) with ranges seen on training pictures, cached on disk.

Weights are int8 per channel, activations uint8 per tensor (Jacob et al., CVPR 2018), as ONNX
Runtime's own quantiser writes them. Torch-free: a device quantises what it runs at its first start
and finds it in the cache from then on.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from artefacts import (
    DEVICE_JSON_BYTES,
    ArtefactError,
    DependencyError,
    digest_bytes,
    read_json,
    write_json,
)
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.facts.preprocessing import Raw
from models.graphs.onnx_graph import APART, interval_model, output_name
from models.graphs.onnx_runtime import onnxruntime, quantization

FORMAT_VERSION = 1
MOST_BYTES = 32 * 2**20
"""Of the trunk's tensors of pictures that are run together."""
ACTIVATIONS = "activations.json"
OPERATORS = ["Add", "AveragePool", "Concat", "Conv", "Gemm", "MatMul", "MaxPool", "Mul"]
Range = tuple[float, float]


class Activations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`activations.json`: least and greatest value of every tensor inside, over `pictures`."""

    format_version: int
    model_digest: str
    """Of the weights."""
    pictures: int
    """That were run."""
    ranges: dict[str, Range]
    """[least, greatest] of every tensor, by name."""

    @property
    def digest(self) -> str:
        """SHA-256 of the ranges and the quantiser's version: with others graphs are others."""
        return digest_bytes(msgspec.json.encode(self) + version("onnxruntime").encode())


def observe_activations(model: Model, samples: Raw) -> Activations:
    """Run raw `samples` (N, ...) through every branch and note the range of every tensor."""
    options = onnxruntime.SessionOptions()
    # what an optimiser fuses away would have no range
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    one = 4 * sum(math.prod(shape) for shape in model.spec.shapes[-1])
    batch = max(1, min(16, MOST_BYTES // one))
    found: dict[str, Range] = {}
    x = model.normalise(samples)
    for branch in range(len(model.spec.branches)):
        stop = len(model.spec.branches[branch])
        graph = onnx.ModelProto.FromString(
            interval_model(model.spec, model.parameters, branch, 0, stop)
        )
        inferred = onnx.shape_inference.infer_shapes(graph).graph.value_info
        floats = [i for i in inferred if i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
        graph.graph.output.extend(i for i in floats)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        names = [o.name for o in session.get_outputs()]
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            for name, value in zip(names, session.run(None, {"x": part}), strict=True):
                _note(found, name, value)
            _note(found, "x", part)
    return Activations(FORMAT_VERSION, model.digest, len(samples), found)


def _note(found: dict[str, Range], name: str, value: npt.NDArray[np.float32]) -> None:
    low, high = found.get(name, (np.inf, -np.inf))
    found[name] = (min(low, float(value.min())), max(high, float(value.max())))


def save_activations(folder: Path, activations: Activations) -> None:
    """Write a model's `activations.json`."""
    write_json(folder / ACTIVATIONS, activations)


def read_activations(model: Model) -> Activations:
    """A model's ranges; refuses those of another model."""
    path = model.folder / ACTIVATIONS
    found = read_json(path, Activations, version=FORMAT_VERSION, most_bytes=DEVICE_JSON_BYTES)
    if found.model_digest != model.digest:
        raise ArtefactError(
            path, field="model_digest", found=found.model_digest, expected=model.digest
        )
    return found


def quantised_interval(
    model: Model, activations: Activations, branch: int, start: int, stop: int
) -> bytes:
    """Layers [start, stop) of a branch in int8, float32 in and out.

    `model` is quantised by its `activations`, the ranges that were seen. `branch` is the exit, from
    0; the layers are those from `start` to before `stop`.
    """
    try:
        tools = quantization()
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"int8: found no package '{error.name}', expected what ONNX Runtime's quantiser needs"
        ) from None
    calibrate = tools.calibrate
    graph = onnx.ModelProto.FromString(
        interval_model(model.spec, model.parameters, branch, start, stop)
    )
    ranges = dict(activations.ranges)
    if start > 0:
        for name, crossing in _entering(model.spec.branches[branch][start - 1]).items():
            if crossing in ranges:  # a mask of booleans has none
                ranges[name] = ranges[crossing]
    ranges["y"] = ranges[output_name(model.spec.branches[branch][stop - 1])]
    seen = {
        name: calibrate.TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    quantiser = tools.QDQQuantizer(
        graph, True, False, tools.QuantType.QInt8, tools.QuantType.QUInt8,
        calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, seen), [],
        [node.name for node in graph.graph.node if node.name.startswith(APART)], OPERATORS, {},
    )  # fmt: skip
    quantiser.quantize_model()
    made: bytes = quantiser.model.model.SerializeToString()
    return made


def _entering(layer: LayerSpec) -> dict[str, str]:
    """What an interval behind `layer` calls the tensors that it begins with, and what graphs with
    the layer inside call them.
    """
    if layer.segment is None or not layer.segment.gives:
        return {"x": output_name(layer)}
    given = onnx.GraphProto.FromString(layer.segment.graph).output
    return {f"x/part{k}": f"{layer.name}/{one.name}" for k, one in enumerate(given)}
