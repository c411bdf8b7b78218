"""What so many requests take, need and cost, by the way that serves them."""

from __future__ import annotations

import msgspec
import numpy as np

from artefacts.arrays import Ints
from experiments.analyses.edgelesspart.tariffs import MB, RUNTIME_MB, TARIFFS, Tariff
from experiments.analyses.edgelesspart.ways import Endings
from models.facts.outcomes import Outcomes


class Bill(msgspec.Struct, frozen=True):
    """What a service bills: gigabyte-seconds, calls, US dollars."""

    tariff: str
    gb_s: float
    calls: int
    usd: float


class Figures(msgspec.Struct, frozen=True):
    """Of all requests, one after the other, on machines and a link that are otherwise idle.

    `total_s`: until the last answer. `calls`: requests that reach the function. `function_bytes`
    and `function_byte_s` are means of those (0 where there are none): what the function holds, and
    that times its seconds. `device_bytes`: what the device holds. `accuracy`: share of answers
    that are right.
    """

    requests: int
    total_s: float
    calls: int
    function_bytes: float
    function_byte_s: float
    device_bytes: int
    accuracy: float
    bills: tuple[Bill, ...]


def drawn_requests(outcomes: Outcomes, count: int, seed: int) -> Ints:
    """Samples of the report half, one a request; where it has too few, some come again."""
    half = outcomes.half("report")
    rng = np.random.default_rng(seed)
    return np.asarray(rng.choice(half, count, replace=count > len(half)))


def figures_of(endings: Endings, samples: Ints, tariffs: tuple[Tariff, ...] = TARIFFS) -> Figures:
    """The figures of the requests `samples` that are served so that they end as `endings` say."""
    at = endings.at[samples]
    called = at[endings.called[at]]
    spent_s = endings.function_s[called]
    needed_mb = RUNTIME_MB + endings.function_bytes / MB
    bills = []
    for tariff in tariffs:
        each = [tariff.gb_s(needed_mb, float(s)) for s in endings.function_s]
        gb_s = float(np.array(each)[called].sum())
        bills.append(Bill(tariff.name, gb_s, len(called), tariff.usd(gb_s, len(called))))
    return Figures(
        len(samples),
        float(endings.seconds[at].sum()),
        len(called),
        float(endings.function_bytes) if len(called) else 0.0,
        float(endings.function_bytes * spent_s.mean()) if len(called) else 0.0,
        endings.device_bytes,
        float(endings.quality[samples].mean(dtype=np.float64)),
        tuple(bills),
    )
