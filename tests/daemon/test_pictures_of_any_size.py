"""A grey network and a letterboxed detector: profiled, served, asked with pictures of other sizes.

Both networks are written by hand, so that what is right is known: the one says whether a picture is
bright, the other gives the corners of what is white in it.
"""

import asyncio
import contextlib
import json
import sys
import textwrap
import threading

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from coinfer.cli.app import app
from controller.daemon.building import build_engine, load_served
from controller.daemon.configuration.settings import HttpSettings, LimitSettings, read_settings
from controller.daemon.inference.served import ServedModel
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.service import FrameService
from controller.daemon.serving import LocalService
from experiments.replay.pictures import run_pictures
from models.data.own_pictures import read_pictures
from models.executors import OnnxExecutor
from models.facts.cards import load_model
from models.facts.preprocessing import PictureInput

pytestmark = pytest.mark.slow
MODULES = """
    import torch
    from torch import nn


    class Bright(nn.Module):
        classes = ["dark", "bright"]

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.end = nn.Linear(4, 2)
            with torch.no_grad():
                self.one.weight.fill_(1.0), self.one.bias.fill_(0.5)
                self.two.weight.fill_(1 / 36), self.two.bias.zero_()
                self.end.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
                self.end.bias.copy_(torch.tensor([2.0, -2.0]))

        def forward(self, x):
            return self.end(torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)))


    class Finder(nn.Module):
        def __init__(self, side):
            super().__init__()
            self.grey = nn.Conv2d(3, 1, 1)
            with torch.no_grad():
                self.grey.weight.fill_(1 / 3), self.grey.bias.zero_()
            self.register_buffer("low", torch.arange(side) / side)
            self.register_buffer("high", (torch.arange(side) + 1) / side)

        def forward(self, x):
            x = torch.relu(self.grey(x))[:, 0]
            found = []
            for axis in (1, 2):
                white = torch.clamp(40.0 * (x.amax(axis) - 0.75), 0.0, 1.0)
                found.append((1.0 - white * (1.0 - self.low)).amin(1))
                found.append((white * self.high).amax(1))
            left, right, top, bottom = found
            sure = 20.0 * x.amax((1, 2)) - 10.0
            boxes = torch.stack([left, top, right, bottom], 1)[:, None]
            return {"boxes": boxes, "scores": sure[:, None, None]}


    def bright():
        return Bright()


    def finder():
        return Finder(64)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brought")
    (folder / "any_size.py").write_text(textwrap.dedent(MODULES))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(sys, "path", [str(folder), *sys.path])
        yield folder
    sys.modules.pop("any_size", None)


def coinfer(*args):
    done = CliRunner().invoke(app, list(map(str, args)))
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@contextlib.contextmanager
def served(folder):
    """Where a folder's network answers on its device alone, over HTTP."""
    config = folder / "device.toml"
    config.write_text(
        f'format_version = 1\nscenario = "{folder / "scenario.toml"}"\ncontroller = "device-only"\n'
    )
    settings = read_settings(config)
    engine = build_engine(settings, config, load_served(settings))
    service = FrameService(engine, 8)
    begun, end, where = threading.Event(), threading.Event(), []

    async def main():
        model = ServedModel(service, LimitSettings(), "0", engine.model.card.classes)
        metrics = DeviceMetrics(engine, lambda: 0)
        async with LocalService(model, metrics, HttpSettings(port=0), None).serving() as found:
            where.extend(found)
            begun.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    service.start()
    thread.start()
    try:
        assert begun.wait(30)
        yield where[0]
    finally:
        end.set()
        thread.join()
        service.close()


def rectangle(height, width, box):
    """A dark picture with a white rectangle at `box`, left, top, right and bottom in pixels."""
    picture = Image.new("RGB", (width, height), (20, 20, 20))
    picture.paste((255, 255, 255), box)
    return picture


@pytest.fixture(scope="module")
def finder(here):
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(44):
        left, top = rng.integers(2, 30, 2).tolist()
        box = (left, top, left + int(rng.integers(8, 30)), top + int(rng.integers(8, 30)))
        pictures.append(np.asarray(rectangle(64, 64, box)))
    np.savez(here / "finder.npz", x=np.stack(pictures))
    coinfer(
        "profile", "--model", "any_size:finder", "--data", "finder.npz", "--fit", "letterbox",
        "--answers", "boxes:1:corners=boxes,scores", "--exits", 0, "--repeats", 2,
        "--out", here / "found",
    )  # fmt: skip
    return here / "found"


def test_a_letterboxed_detector_answers_in_the_picture_that_it_was_asked_with(here, finder):
    assert load_model(finder).preprocessing == PictureInput((0.0,) * 3, (1.0,) * 3, fit="letterbox")
    wide, tall = (30, 60, 150, 90), (20, 150, 90, 200)
    rectangle(120, 200, wide).save(here / "wide.jpg", quality=95)
    rectangle(240, 100, tall).save(here / "tall.png")
    with served(finder) as address:
        for name, (height, width), box in (
            ("wide.jpg", (120, 200), wide), ("tall.png", (240, 100), tall),
        ):  # fmt: skip
            asked = ["ask", name, "--device", address, "--deadline-ms", 20_000]
            found = json.loads(coinfer(*asked, "--json").stdout)["outputs"]["boxes"]
            [seen] = found
            pixel = max(height, width) / 64 + 1
            assert np.multiply(seen, [width, height] * 2) == pytest.approx(box, abs=pixel)
            said = " ".join(coinfer(*asked, "--draw", "drawn.png").output.split())
            assert " ".join(f"{v:.3f}" for v in seen) in said
            drawn = np.asarray(Image.open("drawn.png")).astype(int)
            assert drawn.shape == (height, width, 3)
            row, column = np.rint([seen[1] * (height - 1), seen[0] * (width - 1)]).astype(int)
            assert np.ptp(drawn[row, column + 5]) > 50  # the frame has a colour


@pytest.fixture(scope="module")
def bright(here):
    rng = np.random.default_rng(1)
    for name, level in (("dark", 40), ("bright", 200)):
        (here / "shots" / name).mkdir(parents=True)
        for k in range(24):
            height, width = rng.integers(30, 90, 2)
            noise = rng.integers(-30, 30, (height, width, 3)) + level
            Image.fromarray(noise.astype(np.uint8)).save(here / "shots" / name / f"{k}.png")
    coinfer(
        "profile", "--model", "any_size:bright", "--data", "shots", "--input", "24x32",
        "--channels", "grey", "--fit", "crop:0.9", "--mean", 0.5, "--std", 0.25, "--exits", 1,
        "--epochs", 1, "--head-kind", "linear", "--codecs", "uint8,jpeg75,int8", "--repeats", 2,
        "--out", here / "grey",
    )  # fmt: skip
    return here / "grey"


def test_a_grey_network_is_given_exits_and_judged(bright):
    model = load_model(bright)
    assert model.preprocessing == PictureInput((0.5,), (0.25,), "grey", "crop", 0.9)
    assert model.spec.input_shape == (1, 24, 32)
    assert len(model.spec.exits) == 2
    assert model.card.test_accuracies[-1] == 1.0
    assert model.card.classes == ("dark", "bright")


def test_a_grey_network_is_asked_with_files_of_any_size(here, bright):
    with served(bright) as address:
        for level, said in ((30, "dark"), (220, "bright")):
            Image.new("RGB", (300, 90), (level,) * 3).save("asked.jpg")
            found = coinfer("ask", "asked.jpg", "--device", address, "--deadline-ms", 20_000)
            assert f"({said})" in found.output


def test_a_replay_shows_the_pictures_that_judged_it(here, bright):
    """Fitted as they were when it was judged: its own answers to them are those recorded."""
    from controller.scenarios import load_setting, read_scenario

    setting = load_setting(read_scenario(bright / "scenario.toml"))
    executor = OnnxExecutor(setting.model)
    found = run_pictures(setting, executor, 0, here / "shots")
    assert found.judged
    shown, fit = {one.tobytes() for one in found.x}, setting.model.preprocessing.fitting
    fitted = {one.tobytes() for one in read_pictures(here / "shots", (24, 32), fit=fit).x}
    squashed = {one.tobytes() for one in read_pictures(here / "shots", (24, 32)).x}
    assert shown <= fitted
    assert not shown & squashed
    last = len(setting.spec.exits) - 1
    rows = executor.run(last, 0, len(setting.spec.branches[last]), setting.model.normalise(found.x))
    assert np.array_equal(rows.argmax(axis=1), found.labels)
