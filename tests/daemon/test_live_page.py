"""The live page in a real browser: it draws, and nothing is fetched from elsewhere."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from coinfer import Client
from models.pictures import generated_pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=900,1000", "--virtual-time-budget=4000",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def browse(address, folder, *more):
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/browser", *more, f"{address}/live"],
        capture_output=True, text=True, check=True, timeout=120, cwd=folder,
    ).stdout  # fmt: skip


def test_the_page_shows_what_the_device_does(running, tmp_path):
    with running() as daemon:
        with Client(daemon.address) as client:
            for picture in generated_pictures(30, np.random.default_rng(0)):
                client.infer(picture, deadline_s=5.0)
        dom = browse(daemon.address, tmp_path, "--dump-dom")
        assert int(re.search(r'data-drawn="(\d+)"', dom)[1]) >= 1, dom[:2000]
        assert 'id="facts">no answer' not in dom
        assert '<span id="model">alexnet</span>' in dom
        assert ">30 frames<" in dom
        assert re.search(r"<div>\d+  exit 1 on the device</div>", dom)
        browse(daemon.address, tmp_path, f"--screenshot={tmp_path}/live.png")
        assert (tmp_path / "live.png").stat().st_size > 10_000
    assert not re.search(r'(src|href)="', dom)
