"""ONNX Runtime with its telemetry off: the one place that imports it.

From version 1.29 on, ONNX Runtime posts the machine's id, the interpreter's path, the system, the
memory and the names of graphs to its maker, also from Linux, and keeps a file of them in the user's
cache folder. `ORT_DISABLE_TELEMETRY=1` before the library is loaded is what stops it;
`onnxruntime.disable_telemetry_events()` comes after the first event. A test refuses every other
`import onnxruntime` in the product, and another one watches the daemon's network.
"""

from __future__ import annotations

import os
from typing import Any

# Whatever the environment says: what SECURITY.md promises must not depend on how a process is
# started. Child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime", "quantization"]


def quantization() -> Any:
    """The package's quantisation tools (they import onnx, which running a graph does not need)."""
    import onnxruntime.quantization
    import onnxruntime.quantization.calibrate

    return onnxruntime.quantization
