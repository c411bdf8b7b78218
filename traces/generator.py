"""A generator of mobile bandwidth by mode of transport: slow and fast movement, and outages.

A Gaussian copula: each file has its own level, on it a slow and a fast first-order process (one
alone fits badly: the autocorrelation at 10 s is 0.3 to 0.6), the sum mapped through the measured
distribution of the rate. Outages are a process of their own laid over it. Fitted by `traces.fit`.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError, read_json
from artefacts.arrays import Floats
from traces.trace import BandwidthTrace

FORMAT_VERSION = 1
FITS = Path(__file__).parent / "fits"


class ModeFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mode's parameters."""

    levels: tuple[float, ...]
    """Of the quantile function, from 0 to 1."""
    rates_bps: tuple[float, ...]
    """Its values: rates outside outages."""
    between: float
    """Share of the Gaussian variance that is a file's own level."""
    slow: float
    """Share of the rest that is slow."""
    slow_s: float
    """Its correlation time."""
    fast_s: float
    """That of the remainder."""
    outages_per_hour: float
    """That begin in an hour of connected time."""
    outage_mean_s: float
    """How long they last (log-normal)."""
    outage_sigma: float
    """Of the logarithm."""
    outage_bps: float
    """The rate is below that in them."""


class FamilyFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A family's fitted modes, and what they were fitted to."""

    format_version: int
    family: str
    """Whose logs it stands for."""
    fitted_to: str
    """Source of the statistics."""
    modes: dict[str, ModeFit]
    """A fit for each mode of transport."""


def read_fit(family: str) -> FamilyFit:
    """The shipped fit of 'belgium' or 'norway'."""
    path = FITS / f"{family}.json"
    if not path.exists():
        raise UsageError(f"trace generator: found family '{family}', expected belgium or norway")
    return read_json(path, FamilyFit, version=FORMAT_VERSION)


def generate(
    fit: FamilyFit, mode: str, duration_s: float, rng: np.random.Generator, name: str | None = None
) -> BandwidthTrace:
    """One generated trace on a 1 s grid (a last piece may be shorter).

    `fit` is the family's and `mode` one of its modes. `duration_s` is in seconds, `rng` draws,
    `name` is the trace's (made of family and mode where none is given). Raises a `UsageError`.
    """
    if mode not in fit.modes:
        raise UsageError(
            f"trace generator: found mode '{mode}', expected one of {', '.join(sorted(fit.modes))}"
        )
    if not duration_s > 0:
        raise UsageError(f"trace generator: found {duration_s} s, expected a duration above 0")
    seconds = max(math.ceil(duration_s - 1e-9), 1)
    rates = generate_grid(fit.modes[mode], 1, seconds, rng)[0]
    return BandwidthTrace(
        name or f"{fit.family}-{mode}", np.arange(seconds, dtype=np.float64), rates, duration_s
    )


def generate_grid(fit: ModeFit, files: int, seconds: int, rng: np.random.Generator) -> Floats:
    """Rates (files, seconds) in bit/s, every file with its own level.

    `fit` is the mode's, `files` and `seconds` are how many, `rng` draws.
    """
    normal = gaussian_paths(fit, files, seconds, rng)
    rates = np.interp(normal_cdf(normal), fit.levels, fit.rates_bps)
    down = outage_mask(fit, files, seconds, rng)
    # squared: most of an outage is silence, some of it a trickle
    trickle = 0.95 * fit.outage_bps * rng.random((files, seconds)) ** 2
    return np.where(down, trickle, rates)


def gaussian_paths(fit: ModeFit, files: int, seconds: int, rng: np.random.Generator) -> Floats:
    """Standard normal paths (files, seconds): level + slow + fast.

    `fit` is the mode's, `files` and `seconds` are how many, `rng` draws.
    """
    level = rng.standard_normal((files, 1))
    slow = _autoregression(fit.slow_s, files, seconds, rng)
    fast = _autoregression(fit.fast_s, files, seconds, rng)
    moving = math.sqrt(fit.slow) * slow + math.sqrt(1.0 - fit.slow) * fast
    return np.asarray(math.sqrt(fit.between) * level + math.sqrt(1.0 - fit.between) * moving)


def outage_mask(
    fit: ModeFit, files: int, seconds: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which seconds (files, seconds) are in outage; a file may begin inside one.

    `fit` is the mode's, `files` and `seconds` are how many, `rng` draws.
    """
    down = np.zeros((files, seconds), dtype=np.bool_)
    if fit.outages_per_hour <= 0:
        return down
    up_mean = 3600.0 / fit.outages_per_hour
    share = fit.outage_mean_s / (fit.outage_mean_s + up_mean)
    location = math.log(fit.outage_mean_s) - 0.5 * fit.outage_sigma**2
    for row in down:
        at = 0.0 if rng.random() < share else rng.exponential(up_mean)
        while at < seconds:
            length = max(round(rng.lognormal(location, fit.outage_sigma)), 1)
            row[int(at) : int(at) + length] = True
            at = int(at) + length + 1 + rng.exponential(up_mean)
    return down


def _autoregression(scale_s: float, files: int, seconds: int, rng: np.random.Generator) -> Floats:
    keep = math.exp(-1.0 / scale_s) if scale_s > 0 else 0.0
    shocks = rng.standard_normal((seconds, files))
    shocks[1:] *= math.sqrt(1.0 - keep * keep)
    if files == 1:  # numbers alone are many times as fast as arrays of one
        path = itertools.accumulate(shocks[:, 0].tolist(), lambda before, own: own + keep * before)
        return np.array([list(path)])
    for t in range(1, seconds):
        shocks[t] += keep * shocks[t - 1]
    return shocks.T


def normal_cdf(z: Floats) -> Floats:
    """Standard normal distribution function, to 1.5e-7."""
    # Abramowitz and Stegun 7.1.26: |error| < 1.5e-7, far below what the fit resolves
    x = np.abs(z) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * x)
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    tail = 0.5 * poly * np.exp(-x * x)
    return np.where(z >= 0, 1.0 - tail, tail)
