"""The environments, as Gymnasium and stable-baselines3 find them.

`gymnasium.make("coinfer.gym:coinfer/FrameStream-v0", scenario=...)` and
`gymnasium.make("coinfer.gym:coinfer/ClosedLoop-v0", scenario=...)` need no import of this module.
`stable_baselines_env(scenario, num_envs)` steps many lanes in one process for stable-baselines3.
`FrameStreamEnv` documents observations, actions, rewards and arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coinfer.rooms import room_module

if TYPE_CHECKING:
    from envs.single import ClosedLoopEnv, FrameStreamEnv
    from envs.stable_baselines import stable_baselines_env
    from envs.vector import ClosedLoopVectorEnv, FrameStreamVectorEnv

__all__ = [
    "ClosedLoopEnv",
    "ClosedLoopVectorEnv",
    "FrameStreamEnv",
    "FrameStreamVectorEnv",
    "stable_baselines_env",
]

_MODULES = {
    "ClosedLoopEnv": "envs.single",
    "ClosedLoopVectorEnv": "envs.vector",
    "FrameStreamEnv": "envs.single",
    "FrameStreamVectorEnv": "envs.vector",
    "stable_baselines_env": "envs.stable_baselines",
}
"""stable-baselines3 brings torch: who steps with Gymnasium alone need not wait for it."""

room_module("envs.registration").register()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'coinfer.gym' has no attribute '{name}'")
    return getattr(room_module(_MODULES[name]), name)
