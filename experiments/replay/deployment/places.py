"""Where a policy is deployed: a link of another family, and a device slower than its profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np

from artefacts import UsageError
from controller.scenarios import Setting
from traces.library import SPLITS, TraceSet, load_split, read_set
from traces.subsecond import subsecond_set
from traces.trace import BandwidthTrace

RECORDED_SEED, HELD_BACK_SEED = 104, 105
"""Of the variation within seconds; none of those that scenarios are trained and judged on."""
LEAST_PIECE_S = 120.0
"""So much of a log at least is lived through, where it is that long."""
QUANTILES = 21


@dataclass(frozen=True)
class Place:
    """A link's logs, scaled: those that the device lives through, and those it is judged on."""

    recorded: tuple[BandwidthTrace, ...]
    held_back: tuple[BandwidthTrace, ...]
    scale: float
    source: str


def place_of(
    setting: Setting, traces: str, scale: float | None, minutes: float, logs: int, seconds: float
) -> Place:
    """The place of `setting`'s device whose link is `traces`: a family, a file or a folder.

    The device lives through `minutes` of the first logs, and is judged on the first `seconds` of
    `logs` others. Rates are multiplied by `scale` (None: so that the mean over the logs lived
    through is that of the setting's training logs).
    """
    earlier, later = _parts(traces)
    if scale is None:
        scale = _mean_bps(setting.traces("train").traces) / _mean_bps(earlier.traces)
    sets = [
        replace(part, traces=tuple(trace.scale(scale) for trace in part.traces))
        for part in (earlier, later)
    ]
    if setting.scenario.world.sub_second:
        seeds = (RECORDED_SEED, HELD_BACK_SEED)
        sets = [subsecond_set(part, seed) for part, seed in zip(sets, seeds, strict=True)]
    lived, judged = (part.traces for part in sets)
    held_back = tuple(t.slice(0.0, min(seconds, t.duration_s)) for t in judged[:logs])
    return Place(_first_minutes(lived, minutes), held_back, scale, sets[0].source)


def _parts(traces: str) -> tuple[TraceSet, TraceSet]:
    """What comes first and what is held back: training and test logs, or the halves of others."""
    if (SPLITS / f"{traces}.json").exists():
        return load_split(traces, "train"), load_split(traces, "test")
    found = read_set([Path(traces)])
    if len(found.traces) > 1:
        middle = (len(found.traces) + 1) // 2
        halves = found.traces[:middle], found.traces[middle:]
    else:
        (only,) = found.traces
        middle_s = only.duration_s / 2
        halves = (only.slice(0.0, middle_s),), (only.slice(middle_s, only.duration_s),)
    first, second = (replace(found, traces=tuple(half)) for half in halves)
    return first, second


def _mean_bps(traces: Sequence[BandwidthTrace]) -> float:
    """Over the time of all of them."""
    seconds = sum(trace.duration_s for trace in traces)
    mean = 8.0 * sum(trace.total_bytes for trace in traces) / seconds
    if mean <= 0:
        raise UsageError("traces: found logs that carry nothing, expected some that do")
    return mean


def _first_minutes(traces: Sequence[BandwidthTrace], minutes: float) -> tuple[BandwidthTrace, ...]:
    """The first seconds of as many logs as can be had with `LEAST_PIECE_S` each."""
    most = max(round(60.0 * minutes / LEAST_PIECE_S), 1)
    chosen, left_s, found = traces[:most], 60.0 * minutes, []
    for number, trace in enumerate(chosen):
        length_s = min(left_s / (len(chosen) - number), trace.duration_s)
        found.append(trace.slice(0.0, length_s))
        left_s -= length_s
    return tuple(found)


def slower_device(setting: Setting, factor: float) -> Setting:
    """The setting as it is where everything on its device takes `factor` times as long.

    Its profile and plans stay: whoever decides does not hear of it.
    """
    device = setting.scenario.world.device
    spread = device.spread or _log_normal(setting.table.sigmas[0])
    slower = msgspec.structs.replace(
        device,
        overhead_s=factor * device.overhead_s,
        jitter_s=factor * device.jitter_s,
        spread=tuple(round(factor * quantile, 4) for quantile in spread),
    )
    return setting.in_world(msgspec.structs.replace(setting.scenario.world, device=slower))


def _log_normal(sigma: float) -> tuple[float, ...]:
    """Quantiles of a profile's spread about its median."""
    shares = np.linspace(0.0, 1.0, QUANTILES)
    shares[0], shares[-1] = 0.005, 0.995
    normal = NormalDist()
    return tuple(float(np.exp(sigma * normal.inv_cdf(share))) for share in shares)
