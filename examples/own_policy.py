"""A policy of one's own: trained by stable-baselines3, judged beside the other controllers.

    python examples/own_policy.py [FRAMES]

Needs `pip install -e '.[train]'`. It trains on the scenario's training logs (FRAMES of
experience, 60,000 if not given), writes the policy to `runs/own-policy`, and plays the test logs in
simulation. The same folder is a `--policy` of `coinfer compare`, `coinfer replay` and
`coinfer evaluate`, and the `policy` of a device's `device.toml`.
"""

import sys
from pathlib import Path

from stable_baselines3 import PPO

from coinfer import export_policy
from coinfer.gym import stable_baselines_env
from controller.scenarios import load_setting, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory

SCENARIO = "lte-mobilenet"
FOLDER = Path("runs/own-policy")
RIVALS = ["device-only", "algorithm1-online", "robust", "learned"]
"""'learned' is the policy of the folder."""


def trained(frames: int) -> None:
    """Train on 128 camera streams at once, and write the policy."""
    env = stable_baselines_env(SCENARIO, num_envs=128)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=1024, gamma=0.9, seed=0, device="cpu")
    model.learn(total_timesteps=frames)
    export_policy(model, FOLDER)


def judged(frames: int) -> None:
    """Play at most so many frames of every test log with each controller, and print a table."""
    setting = load_setting(read_scenario(SCENARIO))
    factory = ControllerFactory(setting, policy_folder=FOLDER)
    found = compare(setting, setting.traces("test"), RIVALS, factory, max_frames=frames)
    for name, figures in found.controllers.items():
        print(f"{name:18} {100 * figures.goodput_accuracy:5.1f} % right and in time")


if __name__ == "__main__":
    trained(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
    judged(300)
