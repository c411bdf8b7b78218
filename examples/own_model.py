"""A plan for your own torch model: profile it here, then ask what to do at each bandwidth.

    python examples/own_model.py [FOLDER]

The model is any `torch.nn.Module` from pictures to class scores; `make` below stands for yours.
"""

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from torch import nn


def make() -> nn.Module:
    """A small network; import yours here."""
    widths = [3, 16, 32, 64, 64]
    blocks = [
        layer
        for ins, outs in pairwise(widths)
        for layer in (nn.Conv2d(ins, outs, 3, stride=2, padding=1), nn.ReLU())
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def main(folder: Path) -> None:
    """Profile, load what came out, print the best plan of one frame for three links."""
    from controller.scenarios import load_setting, read_scenario

    subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", "profile", "--model", "own_model:make",
         "--input", "96x96", "--exits", "0", "--slowdown", "1000",
         "--codec-slowdown", "20", "--out", str(folder)],
        cwd=Path(__file__).parent, check=True,
    )  # fmt: skip
    setting = load_setting(read_scenario(folder / "scenario.toml"))
    plans, round_trip_s = setting.candidates, 0.030
    for mbps in (0.02, 2, 20):
        latency_s = plans.latency_s(mbps * 1e6, round_trip_s)
        fastest = int(latency_s.argmin())
        print(f"{mbps:4} Mbit/s: {plans.plans[fastest]}, {1000 * latency_s[fastest]:.1f} ms")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made) / "model")
