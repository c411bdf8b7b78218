"""Names for `gymnasium.make`: importing this module registers them.

`gymnasium.make("envs.registration:coinfer/FrameStream-v0")` needs no import of its own. Gymnasium
1.0 dropped the plugin entry points through which a bare name could be found.
"""

from __future__ import annotations

import gymnasium as gym


def register() -> None:
    """Register `coinfer/FrameStream-v0` and `coinfer/ClosedLoop-v0` (idempotent)."""
    for name, entry, scenario in (
        ("coinfer/FrameStream-v0", "envs.single:FrameStreamEnv", "3g-alexnet"),
        ("coinfer/ClosedLoop-v0", "envs.single:ClosedLoopEnv", "edgent"),
    ):
        if name not in gym.registry:
            gym.register(
                name,
                entry_point=entry,
                vector_entry_point="envs.vector:VectorEnv",
                kwargs={"scenario": scenario},
            )


register()
