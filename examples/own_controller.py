"""Your own controller beside coinfer's: it sends frames as long as its answers come in time.

    python examples/own_controller.py

From this folder `coinfer compare --controllers own_controller:make` finds it. The daemon takes no
code from its working folder: there `controller = "own_controller:make"` needs an installed package,
or PYTHONPATH that names the folder.
"""

import sys
from pathlib import Path

from controller.interface import FrameResult, Measurement, Situation
from controller.planners.fixed import device_only_plan, edge_only_plan
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory

PATIENCE_FRAMES = 10


class Patient:
    """Asks the edge; after an answer that came late it stays on the device for some frames."""

    name = "patient"
    initial_probe_bytes = 0

    def __init__(self, setting: Setting) -> None:
        self._device, self._edge = device_only_plan(setting), edge_only_plan(setting)
        self.reset()

    def reset(self) -> None:
        """A new stream begins."""
        self._alone_until = 0

    def observe(self, measurement: Measurement) -> None:
        """A transfer's figures; a controller that estimates the bandwidth would use them."""

    def record(self, result: FrameResult) -> None:
        """A frame ended: without the answer of its own plan it was no use to ask the edge."""
        if result.plan == self._edge and not (result.by_plan and result.latency_s is not None):
            self._alone_until = result.frame + PATIENCE_FRAMES

    def decide(self, situation: Situation) -> int:
        """Index of the plan for the frame that has just arrived."""
        return self._device if situation.frame < self._alone_until else self._edge


def make(inputs) -> Patient:
    """What the registry calls: `inputs.setting` is the scenario, loaded."""
    return Patient(inputs.setting)


def main() -> None:
    """Compare it on the first 500 frames of every test log."""
    setting = load_setting(read_scenario("3g-mobilenet"))
    factory = ControllerFactory(setting)
    names = ["device-only", "edge-only", "own_controller:make", "algorithm1-online"]
    found = compare(setting, setting.traces("test"), names, factory, max_frames=500)
    print(f"right and in time, {found.source}:")
    for name, own in found.controllers.items():
        print(f"{name:20} {100 * own.goodput_accuracy:.1f} %, late {100 * own.late_share:.1f} %")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
