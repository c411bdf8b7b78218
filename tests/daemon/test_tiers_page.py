"""Device, edge and cloud of docs/how-to/tiers.md, as three processes; the cloud ends."""

import contextlib
import io
import time

import numpy as np
import pytest
from page_daemons import started
from PIL import Image

from coinfer import Client, DeviceError
from coinfer.documentation.shown import ROOT, files

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
PAGE = ROOT / "docs" / "how-to" / "tiers.md"
PATIENT_S = 20.0
"""Of a picture that is asked again where a busy machine made it late."""


def picture(seed):
    """A JPEG file's bytes."""
    level = np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(level).resize((144, 144)).save(stream, "JPEG")
    return stream.getvalue()


def said(log, line):
    """Wait for a daemon's line."""
    end = time.monotonic() + 30
    while line not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def answered_away(client, shown):
    """What other nodes answer within the scenario's own deadline."""
    end = time.monotonic() + PATIENT_S
    while True:
        with contextlib.suppress(DeviceError):
            answer = client.infer(shown)
            if answer.where == "edge":
                return answer
        assert time.monotonic() < end


def test_frames_cross_two_nodes_and_the_edge_does_it_all_where_the_cloud_ends(tmp_path):
    shown = files(PAGE)
    (tmp_path / "tiers.toml").write_text(shown["tiers.toml"])
    cloud, edge = tmp_path / "cloud", tmp_path / "edge"
    for folder in (cloud, edge):
        folder.mkdir()
    (cloud / "cloud.toml").write_text(shown["cloud.toml"].replace("7701", "0"))
    with contextlib.ExitStack() as serving, contextlib.ExitStack() as beyond:
        further, *_ = beyond.enter_context(started(cloud, "edge", "cloud.toml"))
        mine = shown["edge.toml"].replace("7700", "0").replace("7701", further)
        (edge / "edge.toml").write_text(mine)
        port, *_ = serving.enter_context(started(edge, "edge", "edge.toml"))
        said(edge / "edge.log", "'cloud' serves: work is handed on to it")
        device = shown["device.toml"].replace("7700", port).replace("8700", "0")
        (tmp_path / "device.toml").write_text(device)
        address, *_ = serving.enter_context(started(tmp_path, "device", "device.toml"))
        with Client(address) as client:
            before = [answered_away(client, picture(seed)) for seed in range(6)]
            plans = {answer.plan for answer in before}
            assert all(", cloud [" in plan for plan in plans), plans
            beyond.close()
            said(edge / "edge.log", "'cloud' is away")
            after = [answered_away(client, picture(seed)) for seed in range(6)]
    assert [a.label for a in after[:1]] == [b.label for b in before[:1]]
    # once it has heard of it the device plans without the cloud
    assert all(", cloud [" not in answer.plan for answer in after[1:])
