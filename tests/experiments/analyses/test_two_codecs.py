"""Two codecs on a plan's way: what is composed of records is held against what is run."""

import numpy as np
import pytest

from artefacts import UsageError, data_directory
from controller.plans import check_plan
from controller.scenarios import load_setting, read_scenario
from experiments.analyses.two_codecs import PairRow, drawn_plans, figures_of, main, measure
from models.codecs import codec_named
from models.executors import make_executor


@pytest.fixture(scope="module")
def setting():
    return load_setting(read_scenario("lte-mobilenet"))


def test_pairs_are_plans_of_two_codecs_and_the_same_seed_draws_the_same(setting):
    drawn = drawn_plans(setting, 12, np.random.default_rng(3))
    assert drawn == drawn_plans(setting, 12, np.random.default_rng(3))
    assert len(set(drawn)) == 12
    for plan in drawn:
        check_plan(plan, setting.spec)
        assert [hop.node for hop in plan.hops] == ["edge", "cloud"]
        assert not any(codec_named(hop.codec).exact for hop in plan.hops)


def test_how_far_it_is_off_is_counted_over_pairs():
    rows = [
        PairRow("a", 0.9, 0.8, 0.85, composed=0.75, measured=0.77, agreeing=0.98),
        PairRow("b", 0.9, 0.9, 0.88, composed=0.88, measured=0.84, agreeing=0.9),
    ]
    found = figures_of("own", 50, rows)
    assert found.mean_error == pytest.approx(0.01)
    assert found.mean_absolute_error == pytest.approx(0.03)
    assert found.greatest_error == pytest.approx(0.04)
    assert found.least_of_both == pytest.approx(0.035)


def test_without_the_judged_pictures_nothing_is_measured(setting, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["--scenario", "lte-mobilenet", "--pairs", "1", "--samples", "1"])
    assert ended.value.code == 2
    assert "found none of the samples that its network was judged on" in capsys.readouterr().err
    closed = load_setting(read_scenario("edgent"))
    with pytest.raises(UsageError, match="found none that changes a tensor inside"):
        drawn_plans(closed, 1, np.random.default_rng(0))


@pytest.mark.skipif(data_directory() is None, reason="needs the pictures of Imagenette")
def test_what_is_composed_is_near_what_is_run(setting):
    found = measure(setting, make_executor("onnx", setting.model, 1), 40, 4, 0)
    assert (found.samples, len(found.rows)) == (40, 4)
    # each answer of forty counts 2.5 points
    assert found.greatest_error <= 0.1
    assert all(row.agreeing > 0.8 for row in found.rows)
