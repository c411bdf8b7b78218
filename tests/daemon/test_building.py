"""What `device.toml` names, made: the scenario that can be served, the engine, the way to edges."""

import queue
import re
import time
from pathlib import Path

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.daemon.building import build_engine, build_link, load_served
from controller.daemon.configuration.settings import FORMAT_VERSION, DeviceSettings, PriceSettings
from controller.daemon.service import FrameService
from controller.link.interface import NoLink
from controller.link.secure import TlsFiles
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

HERE = Path("/etc/coinfer/device.toml")
SHIPPED = Path(__file__).parents[2] / "controller" / "scenarios" / "shipped"


def settings(**more):
    usual = {"scenario": "3g-alexnet", "controller": "device-only"}
    return DeviceSettings(FORMAT_VERSION, **(usual | more))


def test_a_frame_stream_is_served():
    assert load_served(settings()).scenario.name == "3g-alexnet"


def test_prices_at_the_start_decide_which_plans_there_are():
    """They change while it runs: what was begun with is at the file's own, which names none."""
    named = settings(scenario="lte-mobilenet", prices=PriceSettings(megabyte=3.0))
    found = load_served(named)
    assert found.scenario.name == "lte-mobilenet-priced"
    assert any(plan.hedge for plan in found.table.plans)
    assert (found.prices.device_second, found.prices.megabyte) == (0.0, 0.0)


def test_a_closed_loop_is_refused_in_one_line():
    with pytest.raises(UsageError, match="'edgent': found a closed loop, expected a frame stream"):
        load_served(settings(scenario="edgent"))


def test_a_scenario_whose_frames_may_end_without_an_answer_is_refused(tmp_path):
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    changed = re.sub(r"(?m)^anytime = .*\n", "", text).replace(
        "[plans]", "[plans]\nanytime = false"
    )
    (tmp_path / "never.toml").write_text(changed)
    with pytest.raises(UsageError, match=r"plans\.anytime: found false, expected true"):
        load_served(settings(scenario=str(tmp_path / "never.toml")))


@pytest.fixture
def engine(stream):
    made = build_engine(settings(), HERE, stream)
    yield made
    made.close()


def test_the_engine_decides_by_the_controller_and_the_scenario_that_are_named(engine, stream):
    assert engine.controller.name == "device-only"
    assert engine.table is stream.table
    assert engine.args.deadline_s == stream.scenario.frames.deadline_s
    assert engine.args.rtt_s == stream.scenario.link.rtt_s
    assert engine.args.interval_s == pytest.approx(1 / stream.scenario.frames.rate_fps)
    assert engine.args.rescue_margin_s == stream.timing.rescue_margin_s
    assert engine.model is stream.model


def test_an_unknown_controller_is_refused_with_those_there_are(stream):
    with pytest.raises(UsageError, match="found 'nobody', expected one of device-only, "):
        build_engine(settings(controller="nobody"), HERE, stream)
    with pytest.raises(UsageError, match="found 'oracle', expected one of device-only, "):
        build_engine(settings(controller="oracle"), HERE, stream)


def test_without_edges_the_device_answers_alone(engine, stream):
    assert isinstance(build_link(settings(), HERE, stream, print), NoLink)
    assert not engine.link.connected


@pytest.mark.parametrize("text", ["edge", "edge:", ":1", "edge:0x5", "[::1]", "edge:99999"])
def test_an_address_that_is_none_is_named_by_file_and_field(stream, text):
    with pytest.raises(ArtefactError) as refused:
        build_link(settings(edges=("127.0.0.1:1", text)), HERE, stream, print)
    assert str(refused.value).startswith(f"{HERE}, field 'edges[1]': found '{text}', expected ")


def test_certificates_that_are_not_there_are_refused_before_anything_connects(stream, tmp_path):
    files = TlsFiles(authority=str(tmp_path / "none.pem"))
    with pytest.raises(ArtefactError, match=r"none\.pem: found no such file, expected an author"):
        build_link(settings(edges=("127.0.0.1:1",), tls=files), HERE, stream, print)


def test_the_edge_that_is_named_answers_as_the_network_does(stream, serving, tmp_path):
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    patient = text.replace("deadline_s = 0.088", "deadline_s = 20.0")
    (tmp_path / "patient.toml").write_text(patient.replace("rate_fps = 25.0", "rate_fps = 0.05"))
    executor, heard = OnnxExecutor(stream.model), queue.Queue()
    with serving(stream.model, executor) as edge:
        named = settings(
            scenario=str(tmp_path / "patient.toml"), controller="edge-only",
            edges=(f"127.0.0.1:{edge.port}",),
        )  # fmt: skip
        setting = load_served(named)
        service = FrameService(build_engine(named, HERE, setting), 1)
        try:
            service.start()
            end_s = time.monotonic() + 20.0
            while not service.engine.link.connected:
                assert time.monotonic() < end_s
                time.sleep(0.01)
            picture = generated_pictures(1, np.random.default_rng(5))[0]
            service.submit(picture, heard.put)
            record = heard.get(timeout=30)
        finally:
            service.close()
        assert edge.served == 1
    exit_ = setting.table.plans[record.plan].exit
    whole = executor.run(
        exit_, 0, len(stream.spec.branches[exit_]), stream.model.normalise(picture[None])
    )
    assert (record.where, record.by_plan, record.label) == ("edge", True, int(whole.argmax()))
