"""Cells on a Ray cluster: one task each, retried by Ray where a worker or a node dies.

Tasks take and give plain bytes; whatever a cell needs that coinfer does not ship travels with it
(`bundle`). Every node needs coinfer with the extras `train` and `ray`, and this driver one of the
cluster's nodes as its own machine.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from artefacts import UsageError, without_package
from controller.link.addresses import split_address
from experiments.sweeps.bundle import Bundle, pack, unpacked
from experiments.sweeps.cell import Answer, one_line, run_cell
from experiments.sweeps.grid import Cell
from experiments.sweeps.runners import MAX_ATTEMPTS, Done

CONNECT_S = 5.0


def run_on_ray(cells: Sequence[Cell], address: str) -> Generator[Done]:
    """Run cells as tasks of the cluster at `address` (HOST:PORT) and give each as it ends.

    Closing the iterator, or an exception in it, ends the tasks. Raises UsageError where no cluster
    answers, DependencyError without Ray.
    """
    ray = _connected(address)
    try:
        bundle = ray.put(pack(cells))
        task = ray.remote(num_cpus=1, max_retries=MAX_ATTEMPTS - 1)(run_task)
        waiting = {task.remote(msgspec.json.encode(cell), bundle): cell for cell in cells}
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ended:
                cell = waiting.pop(reference)
                try:
                    answer, attempts = ray.get(reference)
                except ray.exceptions.RayError as error:
                    answer, attempts = {"error": _given_up(error)}, MAX_ATTEMPTS
                yield Done(cell, answer, attempts)
    finally:
        ray.shutdown()


def _given_up(error: Exception) -> str:
    said = one_line(f"{type(error).__name__}: {error}")
    return f"its worker died {MAX_ATTEMPTS} times, at last {said}"


def run_task(encoded: bytes, bundle: Bundle) -> tuple[Answer, int]:
    """What Ray runs on some node: the cell's answer, and how often the cell was begun."""
    cell = msgspec.json.decode(encoded, type=Cell)
    try:
        with unpacked(bundle, cell) as moved:
            return run_cell(msgspec.json.encode(moved)), _attempt()
    except OSError as error:  # no room for the bundle
        return {"error": one_line(f"{type(error).__name__}: {error}")}, _attempt()


def _attempt() -> int:
    """1 for a task's first run. Ray counts retries, but has no public name for the number."""
    from ray._private.worker import global_worker

    worker: Any = global_worker
    return 1 + int(worker.core_worker.get_current_task_attempt_number())


def _connected(address: str) -> Any:
    try:
        where = split_address(address)
    except UsageError as error:
        raise UsageError(f"--ray: {error} of a cluster's head") from None
    # reports of usage go nowhere unless somebody asks for them
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise without_package("--ray", "ray", "ray") from None
    try:
        # Ray itself tries for a minute, in silence
        socket.create_connection(where, CONNECT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, ConnectionError, RuntimeError) as error:
        raise UsageError(
            f"--ray: found no cluster that answers at {address} ({one_line(str(error))}), expected "
            "one of which this machine is a node ('ray start --address=...')"
        ) from None
    return ray
