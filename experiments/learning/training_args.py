"""What decides a training run, checked where it is made, and how far one is.

A module of its own, as the driver of a sweep and the command line need no torch for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from artefacts import UsageError

ABOVE_0 = (
    "planning_backlogs", "lanes", "steps", "epochs", "batch", "learning_rate", "hidden",
    "episode_frames", "validations", "validation_frames",
)  # fmt: skip
FROM_0 = (
    "frames", "planning_sweeps", "entropy", "most_device_second", "most_megabyte", "generated",
    "curriculum", "blind_s", "seed",
)  # fmt: skip
SHARES = ("gamma", "gae_lambda", "critic_share")


@dataclass(frozen=True, slots=True)
class TrainArgs:
    """Everything that decides a run."""

    frames: int = 2_500_000
    """Frames (environment steps) over all lanes; 0 keeps planning alone."""
    planning_backlogs: int = 12
    """States of each backlog up to the deadline in the planning that comes first."""
    planning_sweeps: int = 150
    """Sweeps of its value iteration at most."""
    algorithm: Literal["ppo", "dqn"] = "ppo"
    """PPO, or DQN (which learns values and has no use for the hyper-parameters of rollouts)."""
    lanes: int = 512
    """Streams stepped together."""
    steps: int = 32
    """Frames a lane gives between two updates (PPO)."""
    epochs: int = 4
    """Passes over a rollout (PPO)."""
    batch: int = 4096
    """Frames per gradient step."""
    learning_rate: float = 1e-3
    """Adam's, falling linearly to a tenth."""
    gamma: float = 0.95
    """Discount per frame: what a plan does to queues and knowledge fades within some frames."""
    gae_lambda: float = 0.9
    """Of generalised advantage estimation (PPO)."""
    entropy: float = 0.0
    """Weight of the entropy bonus at the start, falling linearly to 0: what is kept decides by
    the greatest score, so what is trained must end up deciding so too."""
    hidden: int = 32
    """Units of both hidden layers of the scorer."""
    without: tuple[str, ...] = ()
    """Inputs that the scorer is not shown (names of `CONTEXT` or `DESCRIBED`), for ablations."""
    most_device_second: float = 0.0
    """Greatest price of a device second that the policy serves from 0 on; 0: the scenario's only.
    """
    most_megabyte: float = 0.0
    """The same of a megabyte."""
    generated: int = 0
    """Generated traces of the family, as fitted and bent, beside the real ones."""
    curriculum: float = 0.0
    """Traces where the policy trails the rules by this much reward more than on average are drawn
    e times as often (`experiments.learning.curriculum`); 0: all by their length.
    """
    critic_share: float = 0.05
    """Share of the frames, at the start, in which only the value estimate learns: an untrained
    one would first unteach planning."""
    blind_s: float = 0.0
    """Seconds without a measurement after which a plan that measures nothing gives way to a probe;
    0: learnt from the validation traces (`learnt_blind_s`)."""
    episode_frames: int = 256
    """Frames of an episode; each begins at a random place of a random training trace."""
    validations: int = 4
    """How often the policy is judged on the validation traces; the best is kept."""
    validation_frames: int = 4000
    """Of every validation trace, each time."""
    seed: int = 0
    """Seeds initialisation, streams and sampling."""

    def __post_init__(self) -> None:
        for name in ABOVE_0:
            self._check(name, getattr(self, name) > 0, "more than 0")
        for name in FROM_0:
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in SHARES:
            self._check(name, 0 <= getattr(self, name) <= 1, "0 to 1")

    def _check(self, name: str, right: bool, expected: str) -> None:
        if not right:
            raise UsageError(f"training, {name}: found {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How far training is: frames, mean training reward, best validation reward so far."""

    frames: int
    total: int
    reward: float
    validation: float | None
    frames_per_s: float
