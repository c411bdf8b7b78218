"""Every interval a device may run, compiled before the first frame comes."""

from __future__ import annotations

import itertools

import numpy as np

from controller.plans import Plan, passed_exits
from controller.scenarios import Setting
from models.codecs import codec_named
from models.graphs.executors import Executor


def warm(setting: Setting, executor: Executor) -> None:
    """Compile every interval the device may run, so that no frame pays for it."""
    spec = setting.spec
    for plan in setting.table.plans:
        passed = passed_exits(spec, plan)
        gates = [spec.exits[g].after for g in plan.gates]
        points = sorted({0, plan.start, *(spec.exits[j].after for j in passed[-1:]), *gates})
        if plan.is_local:
            points = sorted({0, *gates, len(spec.branches[plan.exit])})
        for begin, end in itertools.pairwise(points):
            zero = np.zeros((1, *spec.shapes[plan.exit][begin]), dtype=np.float32)
            executor.run(plan.exit, begin, end, zero)
        for gate in plan.gates:
            after = spec.exits[gate].after
            zero = np.zeros((1, *spec.shapes[gate][after]), dtype=np.float32)
            executor.run(gate, after, len(spec.branches[gate]), zero)
        _warm_local(setting, executor, plan, list(passed))
        if codec_named(plan.codec).carries == "latent":
            zero = np.zeros((1, *spec.shapes[plan.exit][plan.start]), dtype=np.float32)
            executor.encode(plan.codec, plan.exit, plan.start, zero)


def _warm_local(setting: Setting, executor: Executor, plan: Plan, passed: list[int]) -> None:
    """What the engine computes of its own while the edge is awaited, or once it is lost."""
    spec = setting.spec
    if setting.closed_loop:
        jobs = [(plan.exit, plan.start)]
    elif passed:
        jobs = [(passed[-1], spec.exits[passed[-1]].after)]
    else:
        jobs = [(0, plan.start)]
    if plan.hedge:
        # on and on, each exit from the point of the one before
        while jobs[-1][0] < plan.exit:
            done, start = jobs[-1]
            jobs.append((done + 1, max(spec.exits[done].after, start)))
    for exit_, start in jobs:
        point, length = max(spec.exits[exit_].after, start), len(spec.branches[exit_])
        for a, b in ((start, point), (point, length)):
            if a < b <= length:
                zero = np.zeros((1, *spec.shapes[exit_][a]), dtype=np.float32)
                executor.run(exit_, a, b, zero)
