"""The policy of a scenario's file lies beside it; without one the robust planner decides."""

import functools
import json
import shutil
from types import SimpleNamespace

import pytest

from artefacts import write_json
from controller.daemon.configuration.choosing import DaemonInputs
from controller.planners.rate_rule import MARGINS
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import policy_folder
from controller.registry import tuned
from controller.scenarios import SHIPPED, load_setting, read_scenario
from experiments.evaluation.tuning import check_rewards, numbers
from experiments.studies.inputs import groups_of
from experiments.studies.study import EvaluationSpec


def scenario_file(folder, name):
    """The shipped scenario of 3G under a name of one's own, as a file."""
    text = (SHIPPED / "3g-alexnet.toml").read_text()
    assert 'name = "3g-alexnet"' in text
    path = folder / "scenario.toml"
    path.write_text(text.replace('name = "3g-alexnet"', f'name = "{name}"'))
    return path


def keep_tuned(path):
    """Tuned values in the user's cache, of few frames: choosing them takes a minute."""
    setting = load_setting(read_scenario(path))
    training = setting.traces("train")
    key = tuned.tuned_key(setting, training.traces)
    check = numbers(check_rewards(setting, training.traces))
    write_json(
        tuned.values_file(key, None),
        tuned.Tuned(
            tuned.FORMAT_VERSION, key, setting.scenario.name, training.source, check,
            single_rewards=check[:-1], margins=MARGINS, margin_rewards=(0.0,) * len(MARGINS),
        ),
    )  # fmt: skip


@pytest.fixture
def coinfer(forked, tmp_path):
    return functools.partial(forked, "coinfer.cli.main", cwd=tmp_path)


def test_a_policy_of_that_scenario_beside_its_file_comes_first(tmp_path):
    path, beside = scenario_file(tmp_path, "3g-alexnet"), tmp_path / "policy"
    assert policy_folder(path, "3g-alexnet") == SHIPPED_POLICIES / "3g-alexnet"
    shutil.copytree(SHIPPED_POLICIES / "3g-alexnet", beside)
    assert policy_folder(path, "3g-alexnet") == beside
    assert policy_folder("3g-alexnet", "3g-alexnet") == SHIPPED_POLICIES / "3g-alexnet"
    assert policy_folder(path, "another") is None


def test_the_daemon_and_a_study_look_there_too(tmp_path):
    path, beside = scenario_file(tmp_path, "3g-alexnet"), tmp_path / "policy"
    shutil.copytree(SHIPPED_POLICIES / "3g-alexnet", beside)
    card = json.loads((beside / "policy.json").read_text())
    card["training"]["seed"] = 4711
    (beside / "policy.json").write_text(json.dumps(card))
    setting = load_setting(read_scenario(path))
    settings = SimpleNamespace(policy="", scenario=str(path))
    assert DaemonInputs(settings, setting, setting).learned.card.training["seed"] == 4711
    (group,) = groups_of(EvaluationSpec("one", str(path)), setting)
    assert group.policies == (beside,)


def test_the_daemon_names_a_policy_beside_that_does_not_fit(tmp_path):
    path, beside = scenario_file(tmp_path, "3g-alexnet"), tmp_path / "policy"
    shutil.copytree(SHIPPED_POLICIES / "3g-alexnet", beside)
    without, own, _ = path.read_text().partition("[world]")
    assert own
    path.write_text(without + "[world]\nscene_s = 0.0\nsub_second = true\n")
    setting = load_setting(read_scenario(path))
    settings = SimpleNamespace(policy="", scenario=str(path))
    said = DaemonInputs(settings, setting, setting)._own_policy
    assert f"the policy in '{beside}' does not fit this scenario" in said


@pytest.mark.system
def test_without_a_policy_the_robust_planner_decides_and_it_is_said(coinfer, tmp_path):
    path = scenario_file(tmp_path, "mine")
    done = coinfer("device", "--scenario", path, "--frames", "2", "--edge",
                   "127.0.0.1:9", "--records", "run.json", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["controller"] == "robust"
    (line,) = [one for one in done.stderr.splitlines() if "'robust' decides" in one]
    assert f"coinfer train --scenario {path} --out {tmp_path / 'policy'}" in line


@pytest.mark.system
@pytest.mark.parametrize("command", ["train", "adapt"])
def test_the_policy_of_another_scenario_is_not_overwritten_unasked(coinfer, tmp_path, command):
    path = scenario_file(tmp_path, "mine")
    shutil.copytree(SHIPPED_POLICIES / "3g-alexnet", tmp_path / "policy")
    before = (tmp_path / "policy" / "policy.json").read_bytes()
    done = coinfer(command, "--scenario", path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--out: found the policy of scenario '3g-alexnet'" in done.stderr
    assert (tmp_path / "policy" / "policy.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.system
def test_what_is_adapted_beside_the_file_decides_and_is_compared(coinfer, tmp_path):
    path = scenario_file(tmp_path, "mine")
    keep_tuned(path)
    compare = ("compare", "--scenario", path, "--frames", "3", "--json")
    done = coinfer(*compare)
    assert done.returncode == 0, done.stderr
    assert "learned" not in json.loads(done.stdout)["controllers"]
    assert "compared without 'learned'" in done.stderr
    assert coinfer("adapt", "--scenario", path).returncode == 0
    assert (tmp_path / "policy" / "policy.json").exists()
    done = coinfer(*compare)
    assert done.returncode == 0, done.stderr
    assert "learned" in json.loads(done.stdout)["controllers"]
    done = coinfer("device", "--scenario", path, "--frames", "2", "--edge",
                   "127.0.0.1:9", "--records", "run.json", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["controller"] == "learned"
