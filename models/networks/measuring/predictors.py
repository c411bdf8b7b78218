"""Regression predictors of this machine: fitted on generated layers, judged on layers not fitted.

Owns the grid of generated layers and its timing; the fit itself is `models.facts.regression`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import torch

from artefacts import UsageError
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec, Shape
from models.facts.profiles import FittedPredictor
from models.facts.regression import READINGS, errors, features, fit_predictor, predict
from models.networks.measuring.timing import (
    SYSTEM_CLOCK,
    Clock,
    ProfilingArgs,
    Run,
    chain_times,
    onnx_run,
)
from models.networks.network import layer_module

Progress = Callable[[str, int, int], None]
Timed = tuple[LayerSpec, Shape, float]
"""A layer, its input's shape, its median seconds."""

_GRID_KINDS = ("conv", "relu", "pool", "lrn", "dropout", "fc")


def generated_layer(kind: str, rng: np.random.Generator) -> tuple[LayerSpec, Shape]:
    """A random layer of `kind` and its input's shape, sized as in small networks for pictures."""
    side = int(rng.choice([4, 8, 12, 16, 24, 32]))
    channels = int(np.exp(rng.uniform(np.log(3), np.log(128))))
    shape: Shape = (channels, side, side)
    if kind == "conv":
        kernel, filters = (
            int(rng.choice([1, 3, 5])),
            int(np.exp(rng.uniform(np.log(8), np.log(128)))),
        )
        stride = int(rng.choice([1, 1, 2]))
        layer = LayerSpec(
            "generated", "conv", filters, kernel=kernel, stride=stride, padding=kernel // 2
        )
        return layer, shape
    if kind == "pool":
        return LayerSpec("generated", "pool", kernel=3, stride=2, padding=1), shape
    if kind == "fc":
        inputs, outputs = np.exp(rng.uniform(np.log(32), np.log([4096, 512]))).astype(int)
        return LayerSpec("generated", "fc", channels=int(outputs)), (int(inputs),)
    if kind == "relu":
        return LayerSpec("generated", "relu"), shape
    if kind == "lrn":
        return LayerSpec("generated", "lrn", size=3), shape
    if kind == "dropout":
        return LayerSpec("generated", "dropout"), shape
    raise UsageError(f"generated layer: found kind '{kind}', expected {', '.join(_GRID_KINDS)}")


def _generated_run(layer: LayerSpec, shape: Shape, args: ProfilingArgs, seed: int) -> Run:
    if args.executor == "torch":
        return layer_module(layer, shape).eval()
    from models.graphs.onnx_graph import interval_model

    rng = np.random.default_rng(seed)
    outputs = int(np.prod(layer.output_shape(shape)))
    spec = BranchySpec("generated", shape, outputs, (layer,), (ExitSpec(1),))
    state = {
        f"{layer.name}.{key}": rng.normal(0.0, 0.1, size).astype(np.float32)
        for key, size in layer.parameter_shapes(shape).items()
    }
    return onnx_run(interval_model(spec, state, 0, 0, 1), args.threads)


def fit_predictors(
    own: Sequence[Timed],
    args: ProfilingArgs,
    rng: np.random.Generator,
    progress: Progress = lambda what, done, total: None,
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[FittedPredictor, ...]:
    """A predictor for every kind (and reading) in `own`, the profiled network's layers.

    `args.grid` generated layers are fitted; `args.held_out` others and all of `own` judge the fit.

    `rng` draws the layers. `progress(what, done, total)` hears what is timed, by `clock`.
    """
    kinds = [k for k in _GRID_KINDS if k in {layer.kind for layer, _, _ in own}]
    count = args.grid + args.held_out
    fitted: list[FittedPredictor] = []
    for done, kind in enumerate(kinds):
        made = []
        for k in range(count):
            progress("generated layers", done * count + k, len(kinds) * count)
            layer, shape = generated_layer(kind, rng)
            run = _generated_run(layer, shape, args, args.seed + k)
            x = rng.normal(size=(1, *shape)).astype(np.float32)
            value = torch.from_numpy(x) if args.executor == "torch" else x
            made.append((layer, shape, float(np.median(chain_times([run], value, args, clock)))))
        fitted += _fit_kind(kind, made, own, args.grid)
    progress("generated layers", len(kinds) * count, len(kinds) * count)
    return tuple(fitted)


def _fit_kind(
    kind: str, made: Sequence[Timed], own: Sequence[Timed], grid: int
) -> list[FittedPredictor]:
    mine = [timed for timed in own if timed[0].kind == kind]
    found: list[FittedPredictor] = []
    for reading in READINGS:
        if reading != "maps" and features(*made[0][:2], reading) == features(*made[0][:2]):
            continue  # this kind's variables are the same under every reading
        x = [features(layer, shape, reading) for layer, shape, _ in made]
        y = [seconds for _, _, seconds in made]
        fit = fit_predictor(made[0][0].kind, x[:grid], y[:grid], (x[grid:], y[grid:]), reading)
        predicted = [
            predict(fit.coefficients, fit.intercept, features(layer, shape, reading))
            for layer, shape, _ in mine
        ]
        measured = np.array([seconds for _, _, seconds in mine])
        found.append(
            msgspec.structs.replace(fit, own_mape=errors(np.array(predicted), measured)[0])
        )
    return found
