import csv
import json
import math

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from artefacts import UsageError
from coinfer.cli.judging.figures import figures
from experiments.analyses.figures.edgent import (
    METHODS,
    PAPER_DEVICE_ONLY_S,
    device_only_s,
    edgent_inputs,
    method_points,
    static_choice,
    static_figures,
    throughput_cdf_plot,
    write_static_figures,
)
from models.facts.alexnet import alexnet
from models.facts.cards import FORMAT_VERSION, Card, expected_shapes, model_digest, save_model
from models.facts.preprocessing import PictureInput

ACCURACIES = (0.70, 0.74, 0.77, 0.79, 0.80)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def inputs():
    return edgent_inputs(alexnet(), ACCURACIES)


@pytest.fixture(scope="module")
def made(inputs):
    return static_figures(inputs)


def test_more_bandwidth_never_takes_longer_nor_a_shallower_exit(inputs, made):
    exits = [row.exit for row in made.by_bandwidth]
    assert exits == sorted(exits)
    assert [row.bandwidth_bps for row in made.by_bandwidth][:: len(exits) - 1] == [50e3, 1.5e6]
    for row in made.by_bandwidth:
        assert row.met == (row.latency_s <= row.requirement_s)
        parts = row.edge_s + row.device_s + row.uplink_s + row.downlink_s
        assert row.latency_s == pytest.approx(parts)
        assert 1 <= row.partition <= row.layers + 1
    # at one exit the best latency can only fall with the bandwidth
    at = {e: [r.latency_s for r in made.by_bandwidth if r.exit == e] for e in set(exits)}
    for seconds in at.values():
        assert seconds == sorted(seconds, reverse=True)


def test_a_looser_requirement_never_takes_a_shallower_exit(made):
    met = [row for row in made.by_requirement if row.met]
    assert met
    assert [row.exit for row in met] == sorted(row.exit for row in met)
    assert made.by_requirement[-1].requirement_s == pytest.approx(1.0)
    assert made.by_requirement[0].requirement_s == pytest.approx(0.1)


@pytest.mark.parametrize("order", ["edge-first", "device-first"])
def test_edgent_is_at_least_as_accurate_as_every_other_method(inputs, order):
    for bandwidth in (1e5, 5e5, 2e6):
        for requirement in np.linspace(0.02, 3.0, 40):
            found = {
                p.method: p for p in method_points(inputs, bandwidth, float(requirement), order)
            }
            assert tuple(found) == METHODS
            best = found["edgent"].accuracy
            for point in found.values():
                if point.accuracy is not None:
                    assert best is not None
                    assert best >= point.accuracy
                    assert point.latency_s <= requirement
                else:
                    assert point.latency_s > requirement
            assert found["partition-only"].latency_s <= found["device-only"].latency_s
            assert found["partition-only"].latency_s <= found["edge-only"].latency_s


def test_both_readings_are_far_from_the_paper_s_device_only(inputs):
    found = device_only_s(alexnet())
    assert found["maps"] == pytest.approx(float(inputs.branches[-1].device_s.sum()))
    assert found["maps"] < found["elements"] < PAPER_DEVICE_ONLY_S


def test_a_tight_requirement_shows_right_sizing(inputs):
    found = static_figures(inputs, requirement_s=0.1).by_bandwidth
    assert len({row.exit for row in found}) > 1
    assert all(row.requirement_s == 0.1 for row in found)


def test_methods_by_hand(inputs):
    local = [float(b.device_s.sum()) for b in inputs.branches]
    found = {p.method: p for p in method_points(inputs, 1.0, max(local))}
    assert found["device-only"].accuracy == 0.80
    assert found["edge-only"].accuracy is None
    assert found["right-sizing-only"].accuracy == 0.80
    just_first = {p.method: p for p in method_points(inputs, 1.0, min(local))}
    quick = ACCURACIES[int(np.argmin(local))]
    assert just_first["right-sizing-only"].accuracy == quick
    assert just_first["edgent"].latency_s == pytest.approx(min(local))


def test_a_point_nothing_meets_shows_the_fastest(inputs):
    point = static_choice(inputs, 5e5, 1e-6)
    assert not point.met
    assert point.latency_s > 1e-6
    assert all(p.accuracy is None for p in method_points(inputs, 5e5, 1e-6))


def test_every_picture_has_its_numbers(made, tmp_path):
    written = write_static_figures(made, tmp_path / "figures")
    assert sorted(p.suffix for p in written) == [".csv"] * 3 + [".png"] * 3
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(PNG)
            assert path.with_suffix(".csv") in written
    with open(tmp_path / "figures" / "edgent-bandwidth.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(made.by_bandwidth)
    assert float(rows[3]["latency_s"]) == made.by_bandwidth[3].latency_s
    with open(tmp_path / "figures" / "edgent-accuracy.csv") as stream:
        misses = [row for row in csv.DictReader(stream) if row["accuracy"] == ""]
    assert len(misses) == sum(p.accuracy is None for p in made.methods)


def test_throughput_distribution(tmp_path):
    samples = {"map": np.linspace(0, 50, 501), "algorithm1": np.array([10.0, 20.0, 30.0])}
    found = throughput_cdf_plot(samples, tmp_path / "throughput.png")
    assert found == pytest.approx({"map": 30.0, "algorithm1": 22.0})
    assert (tmp_path / "throughput.png").read_bytes().startswith(PNG)
    with open(tmp_path / "throughput.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 101
    assert float(rows[60]["map"]) == pytest.approx(30.0)


@pytest.mark.parametrize(
    "samples", [{}, {"map": np.array([])}, {"map": np.array([1.0, math.nan])}, {"map": -np.ones(2)}]
)
def test_throughput_refuses_what_is_none(samples, tmp_path):
    with pytest.raises(UsageError, match="throughput figure"):
        throughput_cdf_plot(samples, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def model_folder(tmp_path):
    spec = alexnet()
    state = {n: np.zeros(s, dtype=np.float32) for n, s in expected_shapes(spec).items()}
    card = Card(
        format_version=FORMAT_VERSION,
        name="alexnet",
        network=spec,
        digest=model_digest(spec, state),
        classes=tuple("abcdefghij"),
        dataset="none",
        preprocessing=PictureInput((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        training={},
        held_back_accuracies=ACCURACIES,
        test_accuracies=ACCURACIES,
    )
    save_model(tmp_path / "model", state, card)
    return str(tmp_path / "model")


def app():
    made = typer.Typer()
    made.command()(figures)
    return made


def test_the_command_writes_prints_and_gives_json(model_folder, tmp_path):
    arguments = ["edgent", "--no-dynamic", "--model", model_folder, "--out", str(tmp_path / "out")]
    plain = CliRunner().invoke(app(), arguments)
    assert plain.exit_code == 0, plain.output
    assert "500 kbit/s" in plain.stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    found = json.loads(CliRunner().invoke(app(), [*arguments, "--json"]).stdout)
    assert len(found["figures"]["by_bandwidth"]) == 30
    assert len(found["files"]) == 6
    assert set(found["device_only_s"]) == {"maps", "elements"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["neurosurgeon"], "found 'neurosurgeon', expected edgent"),
        (["edgent", "--reading", "bytes"], "--reading: found 'bytes'"),
        (["edgent", "--order", "both"], "--order: found 'both'"),
        (["edgent", "--requirement-ms", "0"], "--requirement-ms: found 0"),
        (["edgent", "--model", "nowhere/at/all"], "model: found 'nowhere/at/all'"),
    ],
)
def test_the_command_refuses_what_cannot_be_meant(arguments, named):
    outcome = CliRunner().invoke(app(), arguments)
    assert isinstance(outcome.exception, UsageError)
    assert named in str(outcome.exception)
