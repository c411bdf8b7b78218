"""A real device that is slower than its profile, and keeps its records."""

import numpy as np
import pytest

from controller.scenarios import load_setting, read_scenario
from experiments.learning.calibration import recorded_pace
from experiments.learning.records import check_streams, read_streams
from experiments.replay.session import ReplayArgs, run_processes
from traces.trace import BandwidthTrace

pytestmark = pytest.mark.system


def test_a_slower_device_keeps_records_that_tell_it(tmp_path):
    camera = load_setting(read_scenario("lte-mobilenet"))
    link = BandwidthTrace.from_intervals("steady", [8.0], [5e6])
    args = ReplayArgs(
        "lte-mobilenet", "device-only", None, "relay", 1, as_daemon=True, slowdown=1.5,
        keep=tmp_path / "records",
    )  # fmt: skip
    record, _ = run_processes(camera, link, args, lambda note: None)
    streams = read_streams(tmp_path / "records")
    check_streams(tmp_path, streams, camera)
    (stream,) = streams
    assert sorted(f.frame for f in stream.frames) == [f.frame for f in record.frames]
    ran = np.array([f.device_s for f in stream.frames if f.by_plan])
    # a busy machine takes longer still; a third of the frames find no time at all
    assert len(ran) >= 60
    assert np.min(ran) >= 1.49 * float(camera.table.prefix_s[camera.table.local].min())
    assert recorded_pace(camera, stream.frames) >= 1.49
