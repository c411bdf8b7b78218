"""The simplest controllers: one plan for ever."""

from __future__ import annotations

from dataclasses import dataclass

from controller.interface import FrameResult, Measurement, Situation


@dataclass(slots=True)
class FixedController:
    """Always the plan with index `plan`: device-only, edge-only, `fixed`, best single."""

    name: str
    plan: int
    initial_probe_bytes: int = 0

    def reset(self) -> None:
        """Nothing to forget."""

    def observe(self, measurement: Measurement) -> None:
        """Measurements change nothing."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The one plan."""
        return self.plan
