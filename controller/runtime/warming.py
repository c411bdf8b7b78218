"""Every interval a device may run, compiled before the first frame comes."""

from __future__ import annotations

import itertools

import numpy as np

from controller.plans import passed_exits
from controller.runtime.executors import Executor
from controller.scenario import Setting
from models.codecs import LEARNED


def warm(setting: Setting, executor: Executor) -> None:
    """Compile every interval the device may run, so that no frame pays for it."""
    for branch, layers in enumerate(setting.spec.branches):
        shape = (1, *setting.spec.input_shape)
        executor.run(branch, 0, len(layers), np.zeros(shape, dtype=np.float32))
    spec = setting.spec
    for plan in setting.table.plans:
        passed = [spec.exits[j].after for j in passed_exits(spec, plan)]
        gates = [spec.exits[g].after for g in plan.gates]
        points = sorted({0, plan.start, *passed[-1:], *gates})
        if plan.is_local:
            points = sorted({0, *gates, len(spec.branches[plan.exit])})
        for begin, end in itertools.pairwise(points):
            zero = np.zeros((1, *spec.shapes[plan.exit][begin]), dtype=np.float32)
            executor.run(plan.exit, begin, end, zero)
        for gate in plan.gates:
            after = spec.exits[gate].after
            zero = np.zeros((1, *spec.shapes[gate][after]), dtype=np.float32)
            executor.run(gate, after, len(spec.branches[gate]), zero)
        _warm_local(setting, executor, plan.exit, plan.start, passed)
        if plan.codec == LEARNED:
            zero = np.zeros((1, *spec.shapes[plan.exit][plan.start]), dtype=np.float32)
            executor.encode(LEARNED, plan.exit, plan.start, zero)


def _warm_local(
    setting: Setting, executor: Executor, exit_: int, start: int, passed: list[int]
) -> None:
    spec = setting.spec
    for j, e in enumerate(spec.exits[: exit_ + 1]):
        begin = e.after if passed and e.after == passed[-1] else start
        if begin >= len(spec.branches[j]) or (begin > e.after and j != exit_):
            continue
        point = max(e.after, begin)
        for a, b in ((begin, point), (point, len(spec.branches[j]))):
            if a < b:
                zero = np.zeros((1, *spec.shapes[j][a]), dtype=np.float32)
                executor.run(j, a, b, zero)
