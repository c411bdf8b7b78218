"""A policy goes on from what its device has kept: weights, belief, verdict, and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.app import app
from controller.daemon.records.entries import (
    FORMAT_VERSION,
    KeptMeasurement,
    RecordsHeader,
    encoded,
    plans_digest,
)
from controller.policies.network import load_policy, save_policy
from controller.policies.weights import MlpWeights
from experiments.learning.continued import OWN_S, continued, mixed
from experiments.learning.records import split_by_time
from experiments.learning.scorer import Scorer
from experiments.learning.training import TrainArgs
from experiments.learning.verdict import BEFORE, NEW, NEW_ROBUST, ROBUST, judge
from traces.trace import BandwidthTrace

SMALL = TrainArgs(
    frames=4096, lanes=32, steps=64, batch=512, epochs=2, validations=1, validation_frames=150,
    planning_backlogs=4, planning_sweeps=20,
)  # fmt: skip


def two_rates(seconds=1200):
    """A link unlike any that the scenario was trained on: 0.2 or 3 Mbit/s, three seconds each."""
    rates = np.where(np.arange(seconds // 3) % 2, 3e6, 2e5)
    return BandwidthTrace.from_intervals("two-rates", [3.0] * len(rates), rates)


@pytest.fixture(scope="module")
def start(stream, random_policy):
    return random_policy(stream)


def test_a_scorer_takes_weights_as_they_are(start):
    scorer = Scorer(8, 2.0)
    scorer.take(start.weights)
    for name, array in scorer.exported().arrays().items():
        assert np.allclose(array, start.weights.arrays()[name], rtol=1e-6), name
    with pytest.raises(UsageError, match="found weights of 8 hidden units"):
        Scorer(16, 2.0).take(start.weights)


def test_a_policy_goes_on_from_its_weights_with_the_records_belief(stream, start):
    material = mixed(stream, split_by_time([two_rates()], "records"))
    assert material.records_s == pytest.approx(840.0)
    assert material.scenario_s == pytest.approx(OWN_S, rel=0.2)
    assert material.weight == pytest.approx(840.0 / (840.0 + material.scenario_s))
    untouched = continued(stream, start, material, replace(SMALL, frames=0))
    assert np.allclose(untouched.weights.context, start.weights.context)
    assert untouched.card.training["went_on_from"] == start.card.weights_digest
    assert untouched.card.blind_s == start.card.blind_s
    assert np.all(untouched.lowest <= start.lowest)
    # more than half of what the belief was counted on has one of the records' two rates
    near = [np.isclose(untouched.belief.rates_bps, rate, rtol=0.05) for rate in (2e5, 3e6)]
    assert sum(one.mean() for one in near) > 0.5
    # behind 0.2 Mbit/s comes 3 Mbit/s a cycle's half later
    at = np.array([2e5])
    seen = [untouched.belief.of(at, np.array([age]))[0] for age in (0.1, 3.0)]
    assert seen[0][near[0]].sum() > 0.8
    assert seen[1][near[1]].sum() > seen[0][near[1]].sum() + 0.3
    trained = continued(stream, start, material, SMALL)
    assert trained.card.training["validation_reward"] >= untouched.card.training[
        "validation_reward"
    ] - 1e-9  # fmt: skip
    # of weights to go on from and planning alone the better one is where training begins
    first = max(
        trained.card.training[f"validation_reward_of_{name}"] for name in ("start", "planning")
    )
    assert trained.card.training["validation_reward"] >= first - 1e-9


def test_a_plain_network_cannot_go_on(stream, start):
    plain = replace(start, weights=MlpWeights((), (), "tanh"))
    with pytest.raises(UsageError, match="found a plain network .*, expected a policy of coinfer"):
        continued(stream, plain, mixed(stream, split_by_time([two_rates()], "records")), SMALL)


def test_the_verdict_tells_a_better_policy_from_a_worse_one(stream, start):
    """A policy that prefers what its planning advises against, and planning alone."""
    pieces = [two_rates().slice(6.0 * k, 6.0 * k + 6.0) for k in range(7)]
    weights = replace(start.planned().weights, sharpness=-start.weights.sharpness)
    contrary = replace(start, weights=weights)
    good = judge(stream, stream, contrary, start.planned(), pieces)
    assert set(good.controllers) == {NEW, BEFORE, NEW_ROBUST, ROBUST}
    # far enough on every piece that rounding, which differs between machines, decides none
    assert np.all(good.controllers[NEW].rewards > good.controllers[BEFORE].rewards + 0.05)
    assert good.said(BEFORE) == f"'{NEW}' is better than '{BEFORE}'"
    bad = judge(stream, stream, start.planned(), contrary, pieces)
    assert bad.over(BEFORE).mean == pytest.approx(-good.over(BEFORE).mean)
    assert bad.said(BEFORE) == f"'{NEW}' is worse than '{BEFORE}'"
    same = judge(stream, stream, start, start, pieces)
    assert same.said(BEFORE) == f"no difference between '{NEW}' and '{BEFORE}' is shown"
    assert (
        same.controllers[ROBUST].rewards.tolist() == same.controllers[NEW_ROBUST].rewards.tolist()
    )


@pytest.fixture
def records(tmp_path, stream):
    """What a device would have kept of that link."""
    folder, trace, at_s, found = tmp_path / "records", two_rates(600), 0.0, []
    folder.mkdir()
    while at_s < trace.duration_s - 3.0:
        ended = float(trace.transfer_end(at_s, 4000, "stop"))
        found.append(KeptMeasurement(ended, 4000, ended - at_s))
        at_s = max(ended, at_s + 0.2)
    header = RecordsHeader(
        FORMAT_VERSION, "aaaaaaaa", 0, 1e9, stream.scenario.name, stream.scenario.digest,
        stream.model.digest, stream.inputs_digest, plans_digest(stream.table.plans),
    )  # fmt: skip
    (folder / "records-0000000000001-aaaaaaaa-000000.jsonl").write_bytes(
        b"".join(map(encoded, [header, *found]))
    )
    return folder


def called(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_command_writes_a_policy_that_a_daemon_loads_and_says_which_is_better(
    tmp_path, records, stream, start
):
    before, out = tmp_path / "before", tmp_path / "out"
    save_policy(before, start)
    found = called(
        "--from", records, "--policy", before, "--out", out, "--frames", 0,
        "--validation-frames", 100, "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["records_s"] == pytest.approx(0.7 * 597, rel=0.02)
    of_records = said["records_s"] / (said["records_s"] + OWN_S)
    assert said["weight_of_records"] == pytest.approx(of_records, rel=0.05)
    assert set(said["held_back"]) == {NEW, BEFORE, NEW_ROBUST, ROBUST}
    assert said["best"] in said["held_back"]
    assert len(said["verdict"]) == 3
    assert load_policy(out, stream).card.training["records_s"] == said["records_s"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "RECORDS", "--traces", "x"], "--traces: found it beside --from"),
        (["--from", "RECORDS", "--algorithm", "dqn"], "--algorithm dqn: found it beside --from"),
        (["--from", "RECORDS", "--most-megabyte", "1"], "--most-megabyte: found it beside --from"),
        (["--from", "RECORDS", "--scenario", "edgent"], "found records of '3g-alexnet', expected"),
        (["--from", "absent"], "absent: found no folder, expected a folder of kept records"),
        (["--from", "RECORDS", "--policy", "absent"], "learned policy: found none in 'absent'"),
        ([], "--scenario: found none, expected a shipped name or a .toml file"),
        (["--scenario", "edgent", "--policy", "x"], "--policy: found it alone, expected --from"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    tmp_path, records, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    found = called(*[str(records) if one == "RECORDS" else one for one in arguments])
    assert isinstance(found.exception, Exception)
    assert said in str(found.exception)
    assert "\n" not in str(found.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
