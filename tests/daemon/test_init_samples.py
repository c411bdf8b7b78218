"""What `coinfer init` writes is enough: both daemons answer its sample of words or sound."""

import json
import re
import sys
import textwrap
import time

import numpy as np
import pytest
from page_daemons import both
from typer.testing import CliRunner

from coinfer.cli.app import app
from models.executors import OnnxExecutor
from models.facts.cards import load_model

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(400)]
# large enough that computing takes longer than writing a sample to bytes: where it does not, no
# plan that asks the edge is worth keeping
FACTORIES = """
    import torch
    from torch import nn

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.inner = nn.Embedding(50, 256), nn.Linear(256, 1024)
            self.end = nn.Linear(1024, 3)

        def forward(self, ids):
            return self.end(torch.relu(self.inner(self.table(ids))).mean(1))

    class Sound(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv1d(1, 64, 16, 2), nn.Conv1d(64, 128, 8, 2)
            self.end = nn.Linear(128, 4)

        def forward(self, x):
            x = torch.relu(self.first(x[:, None]))
            return self.end(torch.relu(self.second(x)).mean(2))

    def words():
        torch.manual_seed(0)
        return Words().eval()

    def sound():
        torch.manual_seed(0)
        return Sound().eval()
"""


def data_of(kind):
    rng = np.random.default_rng(0)
    if kind == "words":
        x = rng.integers(1, 50, (60, 12))
        return x, x.sum(1) % 3
    x = rng.integers(-8000, 8000, (60, 800)).astype(np.int16)
    return x, rng.integers(0, 4, 60)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "net_of_init.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("net_of_init", None)


@pytest.mark.parametrize(
    ("kind", "taken", "array"),
    [("words", "tokens:12:50", "tokens"), ("sound", "sound:800:16000", "sound")],
)
def test_both_daemons_answer_the_sample_that_init_has_written(here, kind, taken, array):
    x, y = data_of(kind)
    np.savez(here / "data.npz", x=x, y=y)
    made = CliRunner().invoke(app, [
        "init", f"net_of_init:{kind}", "--data", "data.npz", "--input", taken, "--exits", "0",
        "--repeats", "2", "--device", "this", "--link", "lte", "--out", kind, "--json",
    ])  # fmt: skip
    assert made.exit_code == 0, (made.output, made.exception)
    folder = here / kind
    model = load_model(folder)
    row = OnnxExecutor(model).run(0, 0, len(model.spec.trunk), model.normalise(x[:1]))[0]
    asking = json.loads(made.stdout)["ask"].split()[1:]  # as it is printed
    edge, device = ((folder / name).read_text() for name in ("edge.toml", "device.toml"))
    with np.load(folder / "sample.npz") as sample:
        assert sample[array].tolist() == x[0].tolist()
    # the small network is the device's own affair: here the edge is to be asked, too
    device = re.sub('controller = "robust"', 'controller = "edge-only"', device)
    assert "edge-only" in device
    where = set()
    with both(folder, edge, device) as (address, *_):
        end = time.monotonic() + 90
        while "edge" not in where and time.monotonic() < end:
            done = CliRunner().invoke(app, [*asking, "--device", address, "--json"])
            if done.exit_code != 0:  # a busy machine, or an edge that is not there yet
                time.sleep(0.2)
                continue
            found = json.loads(done.stdout)
            assert found["label"] == int(row.argmax())
            where.add(found["where"])
    assert "edge" in where
