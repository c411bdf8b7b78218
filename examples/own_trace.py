"""Your own trace on a real link: a device and an edge process, and a link that follows a file.

    python examples/own_trace.py [FILE] [SECONDS]

Without a file: 5 Mbit/s, a tunnel of two seconds, then 1 Mbit/s. It needs no rights: the link is a
relay in user space. As root `coinfer replay` shapes a kernel's link with tc instead.
"""

import sys
import tempfile
from pathlib import Path

from controller.scenarios import load_setting, read_scenario
from experiments.replay.session import ReplayArgs, run_replay
from traces.formats import read_trace
from traces.trace import BandwidthTrace

SCENARIO = "3g-mobilenet"


def tunnel(folder: Path) -> Path:
    """A trace in coinfer's CSV: from when on which rate holds; the last row is the end."""
    path = folder / "tunnel.csv"
    path.write_text("time_s,bandwidth_bps\n0,5e6\n2,5e6\n3,0\n5,1e6\n8,1e6\n")
    return path


def replay(trace: BandwidthTrace) -> None:
    """Print what came of it, measured and predicted."""
    setting = load_setting(read_scenario(SCENARIO))
    for name in ("device-only", "robust"):
        asked = ReplayArgs(SCENARIO, name, None, "relay", seed=1)
        result = run_replay(setting, trace, asked, say=print).result
        print(f"{name}, pictures: {result.pictures}")
        for what, found in (("measured", result.measured), ("predicted", result.predicted)):
            print(
                f"{name}, {what}: {found.frames} frames, "
                f"{100 * found.goodput_accuracy:.1f} % right and in time, "
                f"{100 * found.late_share:.1f} % late"
            )


def main(argv: list[str]) -> None:
    """Read the file, or make one."""
    with tempfile.TemporaryDirectory() as folder:
        trace = read_trace(Path(argv[0]) if argv else tunnel(Path(folder)))
    seconds = float(argv[1]) if len(argv) > 1 else trace.duration_s
    replay(trace.slice(0.0, min(seconds, trace.duration_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
