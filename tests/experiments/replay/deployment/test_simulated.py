"""What a simulated device keeps is what a real one would: link, device's pace, every frame."""

import numpy as np
import pytest

from controller.scenarios import load_setting, read_scenario
from experiments.evaluation.controllers import ControllerFactory
from experiments.learning.calibration import recorded_pace, recorded_world
from experiments.learning.records import check_streams, measured_traces, read_streams
from experiments.replay.deployment.places import slower_device
from experiments.replay.deployment.simulated import simulated_records
from traces.trace import BandwidthTrace


@pytest.fixture(scope="module")
def camera():
    return load_setting(read_scenario("lte-mobilenet"))


@pytest.fixture(scope="module")
def links():
    """Ten seconds at 4 and at 0.6 Mbit/s in turn."""
    rates = np.where(np.arange(8) % 2, 6e5, 4e6)
    whole = BandwidthTrace.from_intervals("turns", [10.0] * len(rates), rates)
    return [whole, whole.slice(5.0, 65.0)]


@pytest.fixture(scope="module")
def kept(camera, links, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "records"
    make = ControllerFactory(camera).maker("robust", links)
    return folder, simulated_records(camera, slower_device(camera, 1.5), links, make, folder, 3)


def test_every_frame_that_ended_is_kept_by_the_daemons_writer(camera, kept):
    folder, runs = kept
    streams = read_streams(folder)
    check_streams(folder, streams, camera)
    assert len(streams) == len(runs)
    for stream, run in zip(streams, runs, strict=True):
        assert not stream.torn
        # what is under way at the end is nobody's
        assert len(run.plan) - 4 <= len(stream.frames) <= len(run.plan)
        for frame in stream.frames:
            assert frame.plan == run.plan[frame.frame]
            assert frame.arrival_s == pytest.approx(run.arrival_s[frame.frame], abs=1e-6)
            assert (frame.latency_s is not None) == run.in_time[frame.frame]
            assert frame.device_s == pytest.approx(run.device_s[frame.frame], abs=1e-6)


def test_records_tell_the_link_and_the_slower_device(camera, kept, links):
    streams = read_streams(kept[0])
    frames = [frame for stream in streams for frame in stream.frames]
    assert recorded_pace(camera, frames) == pytest.approx(1.5, rel=0.03)
    world = recorded_world(camera, frames)
    assert np.median(world.device.spread) == pytest.approx(1.5, rel=0.03)
    assert np.median(world.edge.spread) == pytest.approx(1.0, abs=0.1)
    # it is measured wherever it is good for something
    (trace, *_) = measured_traces(streams[:1])
    inside = trace.resample(1.0).rates_bps
    assert np.quantile(inside, 0.9) == pytest.approx(4e6, rel=0.15)
