"""How much memory a layer's activations take while it runs, measured in a process of its own.

The process asks the kernel for its peak resident memory, reset before every run, with an allocator
set to give freed memory back at once: its settings would slow down whatever else a process does.
"""

from __future__ import annotations

import ctypes
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from artefacts import processes
from models.facts.cards import Model, load_model
from models.networks.measuring.timing import Executor, Run, runner

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""`mallopt`'s names for the sizes from which memory is mapped by itself, and given back (glibc)."""
SMALLEST_MAPPED_BYTES = 16 * 1024
SAMPLES = 16
"""Run at once: the kernel counts pages in lots, and errs by more than one small layer takes."""
TIMEOUT_S = 600.0


def measured_activations(folder: Path, executor: Executor) -> dict[str, int] | None:
    """Peak activation bytes of one sample while a layer runs alone, input and output included.

    By the layer's name; None where the system cannot tell (another one than Linux with glibc).
    """
    try:
        command = processes.module_command(
            "models.networks.measuring.memory", str(folder), executor
        )
        done = processes.run(command, timeout_s=TIMEOUT_S)
        done.check_returncode()
        found: dict[str, int] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found


def _measure(model: Model, executor: Executor) -> dict[str, int]:
    libc = ctypes.CDLL(None)
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
        if not libc.mallopt(option, SMALLEST_MAPPED_BYTES):
            raise OSError("mallopt refused")
    ready = runner(model, executor, 1, arena=False)
    found: dict[str, int] = {}
    for i, branch in enumerate(model.spec.branches):
        runs: list[Run] | None = None
        for k, layer in enumerate(branch):
            if layer.name in found:
                continue
            runs = ready.layers(i) if runs is None else runs
            shape = model.spec.shapes[i][k]
            x = ready.input(np.zeros((SAMPLES, *shape), dtype=np.float32))
            given = math.prod(shape) + math.prod(layer.output_shape(shape))
            grown = _growth(libc, runs[k], x) // SAMPLES + 4 * math.prod(shape)
            found[layer.name] = max(grown, 4 * given)
    return found


def _growth(libc: ctypes.CDLL, run: Run, x: Any) -> int:
    """Bytes by which resident memory grew at most while `run` ran, once all is in place."""
    for _ in range(2):
        run(x)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = _status("VmRSS")
    kept = run(x)
    peak = _status("VmHWM")
    del kept
    return max(peak - before, 0)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def _main(folder: str, executor: Executor) -> None:
    model = load_model(folder)
    if executor == "torch":
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    print(json.dumps(_measure(model, executor)))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]  # from `measured_activations` only
