"""What function services bill: published prices, and the rules by which memory and time round.

Free grants, traffic and what surrounds a function (gateways, logs) are not in it.
"""

from __future__ import annotations

import math

import msgspec

MB = 2**20
"""Bytes of a megabyte as both services count it."""
RUNTIME_MB = 45.0
"""Resident memory of a process before it loads a network.

Measured on 2026-11-30: Python 3.11 with numpy and onnxruntime 1.31 imported takes 44.7 MB on x86.
"""


class Tariff(msgspec.Struct, frozen=True):
    """A service's prices in US dollars, and what it rounds.

    A call is billed for `step_mb` and `step_s` at a time, and at least for `least_mb` and
    `least_s`. `core_mb`: memory from which a function has one processor, where processor time goes
    with memory (0: it does not). The profiles are of one processor, so no less is ordered.
    """

    name: str
    usd_per_gb_s: float
    usd_per_call: float
    least_mb: float
    step_mb: float
    least_s: float
    step_s: float
    core_mb: float
    source: str

    def billed_mb(self, needed_mb: float) -> float:
        """Megabytes that are billed where a process needs `needed_mb`."""
        return _up(max(needed_mb, self.core_mb, self.least_mb), self.step_mb)

    def billed_s(self, seconds: float) -> float:
        """Seconds that are billed for a call of `seconds`."""
        return _up(max(seconds, self.least_s), self.step_s)

    def gb_s(self, needed_mb: float, seconds: float) -> float:
        """Gigabyte-seconds of one call."""
        return self.billed_mb(needed_mb) / 1024.0 * self.billed_s(seconds)

    def usd(self, gb_s: float, calls: int) -> float:
        """Dollars for so many gigabyte-seconds in so many calls."""
        return gb_s * self.usd_per_gb_s + calls * self.usd_per_call


def _up(amount: float, step: float) -> float:
    # what is whole but for its last digits is no step more
    return math.ceil(round(amount / step, 9)) * step


TARIFFS = (
    Tariff(
        "aws-lambda", 0.0000166667, 0.20e-6, least_mb=128, step_mb=1, least_s=0.001, step_s=0.001,
        core_mb=1769,
        source="AWS Lambda, x86, US East, first tier: aws.amazon.com/lambda/pricing, and "
        "docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html for one processor at "
        "1,769 MB; as known on 2026-11-30",
    ),
    Tariff(
        "azure-functions", 0.000016, 0.20e-6, least_mb=128, step_mb=128, least_s=0.1, step_s=0.001,
        core_mb=0,
        source="Azure Functions, Consumption plan: azure.microsoft.com/pricing/details/functions; "
        "as known on 2026-11-30",
    ),
)  # fmt: skip
"""Prices that are published; both services' first million calls a month are free beside them."""
