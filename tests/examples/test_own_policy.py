"""`examples/own_policy.py` as a user runs it; its policy in `compare`, `replay` and the daemon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coinfer.cli.main import app
from controller.policies.network import NETWORK_VERSION, load_policy, read_card
from controller.scenarios import load_setting, read_scenario
from experiments.replay.session import ReplayArgs, replay
from traces.trace import BandwidthTrace

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The policy that the example wrote, after a short training."""
    place = tmp_path_factory.mktemp("example")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "own_policy.py", "4096"], cwd=place,
        env=ENVIRONMENT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["device-only", "algorithm1-online", "robust", "learned"]
    assert all(50.0 < float(row[1]) < 100.0 for row in rows)
    return place / "runs" / "own-policy"


def test_it_is_a_policy_of_a_plain_network(folder):
    card = read_card(folder)
    assert card.format_version == NETWORK_VERSION
    assert (card.network.widths, card.network.activation) == ((64, 64), "tanh")
    assert card.scenario == "lte-mobilenet"


def test_compare_takes_it(folder, tmp_path):
    trace = tmp_path / "steady.csv"
    trace.write_text("time_s,rate_bps\n" + "".join(f"{k},2000000\n" for k in range(30)))
    said = CliRunner().invoke(
        app, ["compare", "--scenario", "lte-mobilenet", "--policy", str(folder), "--traces",
              str(trace), "--controllers", "learned,planning", "--frames", "60", "--json"],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)["controllers"]
    assert set(found) == {"learned", "planning"}
    assert found["learned"]["plans"] != {}


def test_it_decides_on_a_real_link(folder):
    setting = load_setting(read_scenario("lte-mobilenet"))
    trace = BandwidthTrace("steady", np.array([0.0]), np.array([3e6]), 3.0)
    args = ReplayArgs("lte-mobilenet", "learned", folder, "relay", 1)
    result = replay(setting, trace, args, lambda line: None)
    assert result.measured.frames == result.predicted.frames > 0


def test_the_daemon_s_process_takes_it_without_what_a_pi_lacks(folder):
    code = f"""
import sys
from controller.daemon.configuration.choosing import make_controller
from controller.daemon.configuration.settings import DeviceSettings
from controller.interface import Measurement, Situation
from controller.scenarios import load_setting, read_scenario
settings = DeviceSettings(format_version=1, scenario="lte-mobilenet", controller="learned",
                          policy={str(folder)!r})
setting = load_setting(read_scenario("lte-mobilenet"))
made = make_controller(settings, setting)
made.observe(Measurement(0.0, 3000, 0.01))
plans = [made.decide(Situation(0.1 * k, k, 0.15, 0.0, 0, 0.02)) for k in range(5)]
assert all(0 <= plan < len(setting.table) for plan in plans)
heavy = {{"torch", "gymnasium", "stable_baselines3", "pandas", "matplotlib", "envs", "experiments"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
print(type(made).__name__, settings.controller)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["AnyDeadline", "learned"]


def test_a_changed_card_or_weights_are_one_line_that_names_the_field(folder, tmp_path):
    from artefacts import ArtefactError

    setting = load_setting(read_scenario("lte-mobilenet"))
    card = json.loads((folder / "policy.json").read_text())
    for change, field in (
        ({"format_version": 4}, "network"),
        ({"format_version": 6}, "format_version"),
        ({"network": None}, "network"),
        ({"network": {"widths": [64] * 9, "activation": "tanh"}}, "network.widths"),
        ({"network": {"widths": [64, 0], "activation": "tanh"}}, r"network.widths\[1\]"),
        ({"network": {"widths": [64, 64], "activation": "sine"}}, "network.activation"),
        ({"network": {"widths": [64, 32], "activation": "tanh"}}, "layer_1_matrix"),
        ({"network": {"widths": [64], "activation": "tanh"}}, "layer_1_matrix"),
        ({"hidden": 3}, "hidden"),
        ({"blind_s": 1e-300}, "blind_s"),
        ({"blind_s": 1e300}, "blind_s"),
    ):
        spoilt = tmp_path / "spoilt"
        spoilt.mkdir(exist_ok=True)
        (spoilt / "policy.npz").write_bytes((folder / "policy.npz").read_bytes())
        (spoilt / "policy.json").write_text(json.dumps(card | change))
        with pytest.raises(ArtefactError, match=f"field '{field}'") as refused:
            load_policy(spoilt, setting)
        assert "\n" not in str(refused.value)
