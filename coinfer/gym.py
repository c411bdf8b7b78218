"""The environments, as Gymnasium and stable-baselines3 find them.

`gymnasium.make("coinfer.gym:coinfer/FrameStream-v0", scenario=...)` and
`gymnasium.make("coinfer.gym:coinfer/ClosedLoop-v0", scenario=...)` need no import of this module.
`stable_baselines_env(scenario, num_envs)` steps many lanes in one process for stable-baselines3.
`FrameStreamEnv` documents observations, actions, rewards and arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envs.registration import register
from envs.single import ClosedLoopEnv, FrameStreamEnv
from envs.vector import ClosedLoopVectorEnv, FrameStreamVectorEnv

if TYPE_CHECKING:
    from envs.stable_baselines import stable_baselines_env

__all__ = [
    "ClosedLoopEnv",
    "ClosedLoopVectorEnv",
    "FrameStreamEnv",
    "FrameStreamVectorEnv",
    "stable_baselines_env",
]

register()


def __getattr__(name: str) -> Any:
    # stable-baselines3 brings torch: who steps with Gymnasium alone need not wait for it
    if name != "stable_baselines_env":
        raise AttributeError(f"module 'coinfer.gym' has no attribute '{name}'")
    from envs.stable_baselines import stable_baselines_env

    return stable_baselines_env
