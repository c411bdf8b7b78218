"""Names for `gymnasium.make`: importing this module registers them.

`coinfer.gym` is the module that users name: `gymnasium.make("coinfer.gym:coinfer/FrameStream-v0")`
needs no import of its own. The ids that name this module are an older spelling of the same.
Gymnasium 1.0 dropped the plugin entry points through which a bare name could be found.
"""

from __future__ import annotations

import gymnasium as gym

ENVIRONMENTS = {
    "coinfer/FrameStream-v0": ("FrameStreamEnv", "FrameStreamVectorEnv", "3g-alexnet"),
    "coinfer/ClosedLoop-v0": ("ClosedLoopEnv", "ClosedLoopVectorEnv", "edgent"),
}
"""By id: classes in `envs.single` and `envs.vector`, and the scenario where none is named."""


def register() -> None:
    """Register every environment (idempotent)."""
    for name, (single, vector, scenario) in ENVIRONMENTS.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point=f"{__package__}.single:{single}",
                vector_entry_point=f"{__package__}.vector:{vector}",
                kwargs={"scenario": scenario},
            )


register()
