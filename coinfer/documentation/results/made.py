"""Tables of results that take seconds to minutes: made of the JSON that commands give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coinfer.documentation.results import edgelesspart, portend

Run = Callable[..., Any]
"""The JSON of a command of coinfer, by its arguments."""
Rows = list[tuple[str, ...]]

BUDGETS = (0.4, 0.5, 0.6, 0.7)
NETWORKS = ("mobilenetv2", "alexnet")
CODECS = (
    ("the picture", "", "jpeg75"),
    ("the picture", "", "jpeg35"),
    ("the picture", "", "jpeg20"),
    ("the picture", "", "webp50"),
    ("the picture", "", "webp20"),
    ("block 4 (24 x 18 x 18)", "blocks.4.body", "int8"),
    ("block 4", "blocks.4.body", "int4c+zstd"),
    ("block 4", "blocks.4.body", "bottleneck"),
    ("block 7, projected (`blocks.7.body.2.0`, 48 x 9 x 9)", "blocks.7.body.2.0", "int4c+zstd"),
    ("block 10", "blocks.10.body", "int4c+zstd"),
    ("block 16 (120 x 5 x 5)", "blocks.16.body", "int4c+zstd"),
)
"""(what the page calls it, `after` of the command, codec)."""
DETECTORS = (
    ("Bayesian (Algorithm 3)", "bayes"),
    ("EWMA threshold", "ewma"),
    ("Page-Hinkley (river)", "page-hinkley"),
)


def curve_rows(run: Run) -> Rows:
    """Of `coinfer bench confidence`: accuracy within budgets of multiply-adds."""
    found: Rows = []
    for network in NETWORKS:
        for k, curve in enumerate(run("bench", "confidence", "--model", network)["curves"]):
            within = (_at(curve["budget"], curve["accuracy"], share) for share in BUDGETS)
            found.append(("" if k else network, curve["method"], *within, f"{curve['area']:.4f}"))
    return found


def _at(budgets: Sequence[float], accuracies: Sequence[float], share: float) -> str:
    within = [a for b, a in zip(budgets, accuracies, strict=True) if b <= share + 1e-9]
    return f"{100 * within[-1]:.2f} %"


def calibration_rows(run: Run) -> Rows:
    """Of the same command: expected calibration errors of every exit, before and after."""
    found: Rows = []
    for network, called in zip(NETWORKS, ("MobileNetV2", "AlexNet"), strict=True):
        exits = run("bench", "confidence", "--model", network)["calibration"]
        for name, when in ((called, "before"), ("", "after")):
            found.append((name, when, *(f"{one[f'ece_{when}']:.3f}" for one in exits)))
    return found


def codec_rows(run: Run) -> Rows:
    """Of `coinfer bench codecs`: a selection of cuts and codecs."""
    given = run(
        "bench", "codecs", "--model", "mobilenetv2", "--device", "pi4-one-core",
        "--edge", "edge-x86",
    )  # fmt: skip
    by_place = {(one["after"], one["codec"]): one for one in given}
    found: Rows = []
    for called, after, codec in CODECS:
        one = by_place[after, codec]
        times = f"{1e3 * one['encode_s']:.2f} / {1e3 * one['decode_s']:.2f}"
        change = 100 * one["change"]
        found.append(
            (called, codec, f"{one['mean_bytes']:,.0f}", f"{change:+.2f}" if change else "0.00",
             times)
        )  # fmt: skip
    return found


def detector_rows(run: Run) -> Rows:
    """Of `coinfer compare --controllers map`: what a map earns with each detector."""
    found: Rows = []
    for called, detector in DETECTORS:
        own = run(
            "compare", "--scenario", "edgent", "--controllers", "map", "--detector", detector
        )["controllers"]["map"]
        found.append(
            (called, f"{own['mean_reward']:.2f}", f"{own['throughput_fps']:.1f}",
             f"{own['share_of_bound']:.3f}")
        )  # fmt: skip
    return found


def change_point_rows(run: Run) -> Rows:
    """Of `coinfer bench detector`: both ways of sampling, and switches on real logs."""
    given = run("bench", "detector", "--hours", "10", "--seed", "0")
    found: Rows = []
    for called, detector in DETECTORS:
        delay, missed, alarms = (
            [given[f"steps.{way}.{detector}.{what}"]["value"] for way in ("regular", "irregular")]
            for what in ("mean_delay", "missed", "false_alarms")
        )
        found.append((
            called, f"{delay[0]:.2f} / {delay[1]:.2f} s",
            f"{100 * missed[0]:.1f} / {100 * missed[1]:.1f} %",
            f"{alarms[0]:.1f} / {alarms[1]:.1f}",
            f"{given[f'belgium.{detector}.switches']['value']:.0f}",
        ))  # fmt: skip
    return found


def exit_rows(network: str, also_in_int8: bool) -> Rows:
    """Accuracies of a shipped network's exits over all test pictures, as they were recorded."""
    from models.facts.cards import load_model
    from models.facts.outcomes import QUANTISED, read_outcomes

    outcomes = read_outcomes(load_model(network).folder / "outcomes.npz")

    def shares(codec: str) -> list[str]:
        right = (np.mean(outcomes.quality_of(k, codec)) for k in range(outcomes.exits))
        return [f"{100 * share:.2f} %" for share in right]

    found: Rows = [("accuracy", *shares("float32"))]
    return [*found, ("in int8 (`onnx-int8`)", *shares(QUANTISED))] if also_in_int8 else found


MADE: dict[tuple[str, str], Callable[[Run], Rows]] = {
    ("codecs", "codecs"): codec_rows,
    ("confidence", "stopping-on-confidence"): curve_rows,
    ("confidence", "calibration"): calibration_rows,
    ("networks", "alexnet-with-five-exits"): lambda _: exit_rows("alexnet", False),
    ("networks", "mobilenetv2-with-five-exits"): lambda _: exit_rows("mobilenetv2", True),
    ("networks", "efficientnet-lite0-with-five-exits"): (
        lambda _: exit_rows("efficientnet-lite0", False)
    ),
    ("traces", "change-points"): change_point_rows,
    ("traces", "as-the-sensor-of-the-configuration-map"): detector_rows,
    **edgelesspart.MADE,
    **portend.MADE,
}
"""By (page, table): its rows."""
