"""Who computes layer intervals and codecs: ONNX Runtime, torch, or either at a profile's pace.

- `interface`: what an executor is, and what its answers mean;
- `onnx`, `torch_eager`: the two that compute;
- `paced`: one that takes as long as a profile says;
- `making`: executors by name.
"""

from models.executors.interface import Executor, softmax_answer
from models.executors.making import make_executor
from models.executors.onnx import OnnxExecutor
from models.executors.paced import PacedExecutor
from models.executors.torch_eager import TorchExecutor

__all__ = [
    "Executor",
    "OnnxExecutor",
    "PacedExecutor",
    "TorchExecutor",
    "make_executor",
    "softmax_answer",
]
