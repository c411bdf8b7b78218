"""Every script of `examples/` runs as its first lines say, in a folder of its own.

`own_policy.py` has a file of its own: what it writes goes on to the commands and the daemon.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
pytestmark = [pytest.mark.system, pytest.mark.slow]


def ran(folder, name, *arguments, timeout_s=170):
    """What an example prints on standard output; it must end with 0."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)], cwd=folder, text=True,
        capture_output=True, timeout=timeout_s, env=environment(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(folder):
    """No real data: what a new user has; one thread, beside others' tests."""
    return os.environ | {
        "PYTHONPATH": str(ROOT), "COINFER_DATA": str(folder), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def test_all_are_run():
    assert {p.name for p in EXAMPLES.glob("*.py")} == {
        "camera.py", "edgelesspart_networks.py", "efficientnet_lite.py", "own_controller.py",
        "own_model.py", "own_policy.py", "own_trace.py",
    }  # fmt: skip


def test_a_camera_without_an_address_says_how_it_is_called(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "camera.py")], cwd=tmp_path, text=True, check=False,
        capture_output=True, timeout=60, env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "usage: python examples/camera.py ADDRESS [SECONDS]\n"


def test_a_plan_for_a_torch_model(tmp_path):
    said = ran(tmp_path, "own_model.py", tmp_path / "model")
    *_, slow, _, fast = said.strip().splitlines()
    assert slow.startswith("0.02 Mbit/s: exit 1 on the device")
    assert fast.startswith("  20 Mbit/s: exit 1, edge [0, ")
    assert (tmp_path / "model" / "scenario.toml").exists()


def test_a_controller_beside_ours(tmp_path):
    rows = ran(tmp_path, "own_controller.py").strip().splitlines()[1:]
    shares = {row.split()[0]: float(row.split()[1]) for row in rows}
    assert set(shares) == {"device-only", "edge-only", "own_controller:make", "algorithm1-online"}
    assert shares["own_controller:make"] > max(shares["device-only"], shares["edge-only"])


def test_a_trace_on_a_real_link(tmp_path):
    (tmp_path / "mine.csv").write_text("time_s,bandwidth_bps\n0,5e6\n1,0\n2,1e6\n9,1e6\n")
    said = ran(tmp_path, "own_trace.py", "mine.csv", 3)
    found = re.findall(r"^(.+), (measured|predicted): (\d+) frames, ", said, re.M)
    assert [line[:2] for line in found] == [
        (name, what) for name in ("device-only", "robust") for what in ("measured", "predicted")
    ]
    (frames,) = {int(line[2]) for line in found}  # those of three seconds, each time
    assert 60 < frames <= 90
    assert "robust, pictures: " in said


@contextlib.contextmanager
def device(folder):
    """A device daemon without an edge, and its address."""
    (folder / "device.toml").write_text(
        'format_version = 1\nscenario = "3g-alexnet"\n[http]\nport = 0\n'
        f'socket = "{folder}/device.sock"\n'
    )
    ready = folder / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "device", "--config", "device.toml",
         "--ready-file", str(ready)],
        cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not ready.exists() or not ready.read_text().strip():
            assert process.poll() is None, "the daemon ended"
            assert time.monotonic() < end, "the daemon is not ready"
            time.sleep(0.05)
        yield ready.read_text().splitlines()[0]
    finally:
        process.terminate()
        process.wait(60)


def test_a_camera_s_frames(tmp_path):
    with device(tmp_path) as address:
        said = ran(tmp_path, "camera.py", address, 2)
    found = [line.split(" frames: ") for line in said.strip().splitlines()]
    assert sum(int(count) for count, _ in found) == 20
    assert any("on the device" in where for _, where in found)
