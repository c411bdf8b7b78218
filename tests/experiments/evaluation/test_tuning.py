"""Tuned values: shipped where they should be, found again, made anew where the code is another."""

import os

import msgspec
import numpy as np
import pytest

from artefacts import UsageError, data_directory, write_json
from controller.planners.rate_rule import MARGINS
from controller.registry import tuned
from controller.registry.tuned import tuned_key, tuned_values, values_file
from controller.scenarios import load_setting, priced_copy, read_scenario, shipped_scenarios
from experiments.evaluation import tuning
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.tuning import Tuning, check_rewards, margin_rewards
from traces.library import TraceSet
from traces.trace import BandwidthTrace


@pytest.fixture
def short(monkeypatch):
    """Training traces of seconds, and choices on few of their frames."""
    rng = np.random.default_rng(5)
    traces = tuple(
        BandwidthTrace(f"t{k}", np.arange(6.0), rng.uniform(2e5, 4e6, 6), 6.0 + k) for k in range(3)
    )
    monkeypatch.setattr(tuned, "CHOICE_FRAMES", 30)
    monkeypatch.setattr(tuned, "FIRST_FRAMES", 15)
    return TraceSet(traces, True, "made")


def never(*args, **how):
    raise AssertionError("made again")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["real logs", "stand-ins"])
@pytest.mark.parametrize("name", shipped_scenarios())
def test_values_of_shipped_scenarios_are_shipped_and_are_what_this_code_gives(
    name, family, monkeypatch, tmp_path
):
    if family == "stand-ins":
        monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    elif data_directory() is None:
        pytest.skip("the published logs are not here")
    setting = load_setting(read_scenario(name))
    training = setting.traces("train")
    assert training.generated == (family == "stand-ins")
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(tuning, "margin_rewards", never)
    (found,) = tuned.kept_values(setting, tuned_key(setting, training.traces), None)
    np.testing.assert_allclose(found.check, check_rewards(setting, training.traces), rtol=1e-9)
    assert len(found.single_rewards) == len(setting.table)
    assert found.margins == MARGINS
    factory = ControllerFactory(setting)
    known = tuned_values(setting, training.traces, "3g-alexnet")
    assert factory.margin == found.margin == known.margin
    assert factory.fixed_plan == found.fixed_plan(setting)


def test_values_are_made_once_and_found_again_to_the_last_bit(stream, short, tmp_path, monkeypatch):
    reported = []
    first = Tuning(stream, short, tmp_path, reported.append)
    assert not first.margins().single_rewards, "what nobody asked for is not made"
    made = first.single_plans()
    assert len(reported) == tuning.RUNS
    assert made.margin_rewards == tuple(margin_rewards(stream, short.traces))
    monkeypatch.setattr(tuning, "margin_rewards", never)
    again = Tuning(stream, short, tmp_path, reported.append)
    assert again.single_plans() == again.margins() == made
    assert len(reported) == tuning.RUNS
    with pytest.raises(AssertionError, match="made again"):
        Tuning(stream, short, tmp_path, again=True).margins()


def test_the_user_s_cache_keeps_them_for_the_daemon_too(stream, short, tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="coinfer tune --scenario mine/scenario.toml"):
        tuned_values(stream, short.traces, "mine/scenario.toml")
    made = Tuning(stream, short)
    made.single_plans()
    with pytest.raises(UsageError, match="coinfer tune"):
        tuned_values(stream, short.traces, "3g-alexnet")  # half of it is not enough
    assert made.margins() == tuned_values(stream, short.traces, "3g-alexnet")


def test_other_prices_traces_and_ways_to_choose_have_other_keys(stream, short, monkeypatch):
    keys = {tuned_key(stream, short.traces), tuned_key(stream, short.traces[:2])}
    keys.add(tuned_key(stream.at_prices(0.1, 0.2), short.traces))
    monkeypatch.setattr(tuned, "CHOICE_FRAMES", 31)
    keys.add(tuned_key(stream, short.traces))
    assert len(keys) == 4


def kept(stream, short, folder):
    Tuning(stream, short, folder).single_plans()
    return values_file(tuned_key(stream, short.traces), folder)


def spied(ran):
    real = tuning.single_plan_rewards

    def run(setting, traces, half, *, max_frames):
        ran.append(max_frames)
        return real(setting, traces, half, max_frames=max_frames)

    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda found: {"check": tuple(x + 1e-6 for x in found.check)},
        lambda found: {"check": found.check[:-1]},
        lambda found: {"single_rewards": found.single_rewards[:-1]},
        lambda found: {"margins": (1.0,)},
        lambda found: {"key": "0" * 64},
    ],
)
def test_values_of_other_code_or_of_something_else_are_made_anew(
    stream, short, tmp_path, monkeypatch, change
):
    path = kept(stream, short, tmp_path)
    found = msgspec.json.decode(path.read_bytes(), type=tuned.Tuned)
    write_json(path, msgspec.structs.replace(found, **change(found)))
    ran = []
    monkeypatch.setattr(tuning, "single_plan_rewards", spied(ran))
    assert Tuning(stream, short, tmp_path).single_plans() == found
    assert tuned.CHOICE_FRAMES in ran


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"format_version": 99}'])
def test_a_file_that_is_not_whole_is_made_anew(stream, short, tmp_path, raw):
    path = kept(stream, short, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(raw)
    Tuning(stream, short, tmp_path).single_plans()
    assert path.read_bytes() == whole


def test_a_file_that_others_may_write_is_not_believed(stream, short, tmp_path):
    folder = tmp_path / "shared" / "own"
    folder.mkdir(parents=True)
    path, key = kept(stream, short, folder), tuned_key(stream, short.traces)
    os.chmod(path, 0o666)
    assert tuned.kept_values(stream, key, folder) == []
    os.chmod(path, 0o644)
    assert tuned.kept_values(stream, key, folder) != []
    os.chmod(folder.parent, 0o777)
    assert tuned.kept_values(stream, key, folder) == []


def test_a_place_that_cannot_be_written_is_done_without(stream, short, monkeypatch):
    monkeypatch.setenv("COINFER_CACHE", "/proc/nowhere")
    assert len(Tuning(stream, short).single_plans().single_rewards) == len(stream.table)


def test_of_plans_that_hedge_the_best_is_another_choice():
    setting = load_setting(priced_copy(read_scenario("lte-mobilenet")))
    hedges = [plan.hedge for plan in setting.table.plans]
    rewards = tuple(np.linspace(0.0, 1.0, len(setting.table)).tolist())
    found = tuned.Tuned(tuned.FORMAT_VERSION, "", "", "", (), rewards)
    assert not hedges[found.fixed_plan(setting)]
    assert hedges[found.hedged_plan(setting)]
