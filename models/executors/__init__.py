"""Who computes layer intervals and codecs: ONNX Runtime, or any at a profile's pace.

- `interface`: what an executor is, and what its answers mean;
- `onnx`: ONNX Runtime (`models.networks.torch_executor` has torch);
- `paced`: one that takes as long as a profile says;
- `making`: executors by name.
"""

from models.executors.interface import Executor
from models.executors.making import make_executor
from models.executors.onnx import OnnxExecutor
from models.executors.paced import PacedExecutor

__all__ = [
    "Executor",
    "OnnxExecutor",
    "PacedExecutor",
    "make_executor",
]
