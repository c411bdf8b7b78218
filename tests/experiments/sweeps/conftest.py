"""Tiny trainings on a few made logs, and one sweep of them that nothing disturbed."""

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from sweep_processes import definition, swept

from traces.library import FOLDERS, read_split


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder that looks like the real data: every log of two families, six seconds long."""
    root = tmp_path_factory.mktemp("data")
    for family in ("norway", "belgium"):
        split = read_split(family)
        folder = root / "traces" / FOLDERS[family]
        for file in (*split.train, *split.validation, *split.test):
            rates = np.random.default_rng(zlib.crc32(file.file.encode())).uniform(2e5, 4e6, 6)
            (folder / file.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.file).write_text(as_log(rates))
    return root


def as_log(rates_bps):
    """Rates of seconds as the public logs have them: six columns, bytes and ms of every row."""
    rows = (f"{1285837000 + k} {1000 * k} 0 0 {r / 8:.0f} 1000" for k, r in enumerate(rates_bps))
    return "\n".join(rows) + "\n"


@pytest.fixture
def here(data, monkeypatch):
    """This process finds those logs too."""
    monkeypatch.setenv("COINFER_DATA", str(data))


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """A sweep of four cells that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = swept(definition(folder), "--out", folder / "out", "--jobs", 2, "--json", data=data)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, out=folder / "out", said=json.loads(done.stdout))
