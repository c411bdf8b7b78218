"""Reference profiles from Edgent's published regression: `edgent-pi3` and `edgent-pc`.

Transcribed from Li et al., IEEE TWC 2020, table II (milliseconds): a Raspberry Pi 3 and a desktop
PC. Nothing here was measured by us, and the profiles say so. Also here: what the table's two
readings give, and what the paper's own edge-only times say about its wire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from artefacts import UsageError
from models.facts.branchy import BranchySpec
from models.facts.layers import LayerSpec, Shape
from models.facts.profiles import FORMAT_VERSION, LayerProfile, Profile
from models.facts.regression import Reading, features, predict

REFERENCE_NAMES = ("edgent-pi3", "edgent-pc")

_COEFFICIENTS_MS: dict[str, dict[str, tuple[tuple[float, ...], float]]] = {
    "edgent-pc": {
        "conv": ((6.03e-5, 1.24e-4), 0.189),
        "relu": ((5.6e-6,), 0.0569),
        "pool": ((1.63e-5, 4.07e-6), 0.211),
        "lrn": ((6.59e-5,), 0.078),
        "dropout": ((5.23e-6,), 4.64e-3),
        "fc": ((1.07e-4, -1.83e-4), 0.164),
        "model loading": ((1.33e-6,), 2.182),
    },
    "edgent-pi3": {
        "conv": ((6.13e-3, 2.67e-2), -9.909),
        "relu": ((1.5e-5,), 0.488),
        "pool": ((1.33e-4, 3.31e-5), 1.657),
        "lrn": ((5.19e-4,), 0.589),
        "dropout": ((2.34e-6,), 0.0525),
        "fc": ((9.18e-4, 3.99e-3), 1.169),
        "model loading": ((4.49e-6,), 842.136),
    },
}

PAPER_ANCHOR = ((1e6, 0.123), (50e3, 2.317))
"""(bit/s, seconds) of edge-only in the paper (section III): the bandwidths it prints."""


def reference_profile(name: str, spec: BranchySpec, reading: Reading = "maps") -> Profile:
    """A network's profile by the paper's regression; `reading` of conv's x1, see `features`."""
    if name not in _COEFFICIENTS_MS:
        raise UsageError(
            f"reference profile: found '{name}', expected one of {', '.join(REFERENCE_NAMES)}"
        )
    table = _COEFFICIENTS_MS[name]
    branches = tuple(
        tuple(_layer(table, x, s, reading) for x, s in zip(branch, shapes, strict=False))
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
    )
    named = {x.name: x.parameter_bytes for branch in branches for x in branch}
    coefficients, intercept = table["model loading"]
    loading_ms = coefficients[0] * sum(named.values()) + intercept
    return Profile(
        format_version=FORMAT_VERSION,
        name=name,
        network=spec.name,
        network_digest=spec.digest,
        executor="regression",
        threads=1,
        host=None,
        emulation=None,
        transcribed=f"Li et al., IEEE TWC 2020, table II; conv input read as {reading}",
        model_loading_s=loading_ms / 1000.0,
        spread=1.0,
        branches=branches,
    )


def _layer(
    table: dict[str, tuple[tuple[float, ...], float]],
    layer: LayerSpec,
    shape: Shape,
    reading: Reading,
) -> LayerProfile:
    if layer.segment is not None:
        raise UsageError(
            f"layer '{layer.name}': found a stretch of several operations, expected a kind that "
            f"the paper's regression knows ({', '.join(sorted(table))})"
        )
    coefficients, intercept = table["relu" if layer.kind == "flatten" else layer.kind]
    in_seconds = tuple(c / 1000.0 for c in coefficients)
    seconds = predict(in_seconds, intercept / 1000.0, features(layer, shape, reading))
    output = layer.output_shape(shape)
    sizes = 4 * math.prod(output), layer.parameter_bytes(shape)
    return LayerProfile(
        layer.name, layer.kind, seconds, seconds, 0, output, *sizes,
        peak_memory_bytes=sum(sizes) + 4 * math.prod(shape),
    )  # fmt: skip


def whole_branch_s(spec: BranchySpec, reading: Reading = "maps") -> dict[str, tuple[float, ...]]:
    """Seconds of every branch run in one place, by reference machine: device-only and edge-only.

    Without transfer and model loading. On the branchy AlexNet's deepest exit 'maps' gives the Pi
    109 ms and 'elements' 276 ms; the PC 5.4 and 7.1 ms.
    """
    found: dict[str, tuple[float, ...]] = {}
    for name in REFERENCE_NAMES:
        profile = reference_profile(name, spec, reading)
        found[name] = tuple(
            profile.interval_s(i, 0, len(branch)) for i, branch in enumerate(spec.branches)
        )
    return found


@dataclass(frozen=True, slots=True)
class AnchorGap:
    """The paper's edge-only times against ours, and the line through the paper's two points.

    `ours_s` and `paper_s` are at the bandwidths of `PAPER_ANCHOR`; `header_bytes` is what
    Ethernet, IP and TCP add to `input_bytes`.
    """

    ours_s: tuple[float, ...]
    paper_s: tuple[float, ...]
    implied_bytes: float
    implied_constant_s: float
    input_bytes: int
    header_bytes: int

    @property
    def excess(self) -> float:
        """Bytes the paper's times imply beyond the bare input, as a fraction of it."""
        return self.implied_bytes / self.input_bytes - 1.0


_SEGMENT_BYTES = 1448
_HEADER_BYTES = 14 + 20 + 32
"""Ethernet, IPv4, and TCP with timestamps, before each segment of at most `_SEGMENT_BYTES`."""


def anchor_gap(spec: BranchySpec) -> AnchorGap:
    """Explain why the paper's edge-only is slower than its own regression on 12,288 bytes.

    Both of its points lie on T = 8 S / B + c; two equations solve to S = 14,434 bytes and
    c = 7.5 ms (0.5 ms either way, for the digits printed): 17.5 % more than a bare float32 picture
    crossed its link. Headers on nine segments are 4.8 % of the picture, so they are not enough.
    Candidates for the rest: a serialised message (framing and type information around the
    tensor), acknowledgements and retransmissions inside the shaped rate, a shaper whose set rate
    is not the payload's. Times alone cannot tell these apart: all scale with 1 / B. The constant c
    is the edge's compute and what else does not scale: 'maps' leaves 2.1 ms of it for a round
    trip and unpacking, 'elements' 0.5 ms. Ours sends the bare tensor behind a short header, and
    the simulation keeps the paper's arithmetic, Input / B.
    """
    (b1, t1), (b2, t2) = PAPER_ANCHOR
    implied = (t2 - t1) / (8.0 / b2 - 8.0 / b1)
    n_bytes = 4 * math.prod(spec.input_shape)
    compute_s = whole_branch_s(spec)["edgent-pc"][-1]
    return AnchorGap(
        ours_s=tuple(8.0 * n_bytes / rate_bps + compute_s for rate_bps, _ in PAPER_ANCHOR),
        paper_s=(t1, t2),
        implied_bytes=implied,
        implied_constant_s=t1 - 8.0 * implied / b1,
        input_bytes=n_bytes,
        header_bytes=math.ceil(n_bytes / _SEGMENT_BYTES) * _HEADER_BYTES,
    )
