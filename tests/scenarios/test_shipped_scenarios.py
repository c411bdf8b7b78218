"""Every scenario that comes with coinfer loads, and offers what it says."""

import dataclasses
import re

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from controller.scenarios import SHIPPED, load_setting, read_scenario, shipped_scenarios
from models.codecs import LEARNED, codec_named
from models.facts.outcomes import QUANTISED


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_loads_and_its_table_is_sound(name):
    setting = load_setting(read_scenario(name))
    table = setting.table
    assert table.local.any()
    assert not table.local.all()
    assert np.all(table.up_bytes[~table.local] > 0)
    assert np.all((table.accuracy > 0.5) & (table.accuracy < 1.0))
    known = set(setting.candidates.plans)
    bare = {dataclasses.replace(p, gates=(), threshold=1.0) for p in table.plans}
    assert bare <= known


@pytest.mark.parametrize("name", ["lte-mobilenet", "3g-mobilenet"])
def test_the_picture_rivals_every_cut_of_the_camera_network(name):
    setting = load_setting(read_scenario(name))
    codecs = {h.codec for p in setting.candidates.plans for h in p.hops}
    assert any(c.startswith("jpeg") for c in codecs)
    assert any(
        codec_named(h.codec).carries == "picture" for p in setting.table.plans for h in p.hops
    )
    assert LEARNED in codecs
    assert setting.device.emulation is not None
    # encoding is paid for by the device, decoding by the edge
    plan = next(
        p for p in setting.candidates.plans if p.hops and p.hops[0].codec.startswith("jpeg")
    )
    row = setting.candidates.index(plan)
    assert setting.candidates.prefix_s[row] == setting.device.encode_s(plan.hops[0].codec, "") > 0


def test_the_camera_network_keeps_its_bars():
    setting = load_setting(read_scenario("lte-mobilenet"))
    outcomes, spec = setting.outcomes, setting.spec
    last = len(spec.exits) - 1
    assert outcomes.samples == 3925
    assert outcomes.accuracy(last) >= 0.85
    assert outcomes.accuracy(0) >= 0.55
    for exit_, codec, cut in outcomes.keys:
        if codec in ("int8", "int8c"):
            change = outcomes.accuracy(exit_, codec, cut) - outcomes.accuracy(exit_)
            assert change > -0.01, (exit_, codec, cut)
    for exit_ in range(len(spec.exits)):
        change = outcomes.accuracy(exit_, QUANTISED, 0) - outcomes.accuracy(exit_)
        assert change >= -0.01, exit_
    size = sum(p.stat().st_size for p in setting.model.folder.glob("weights*"))
    assert size <= 12e6


def test_the_camera_networks_bottleneck_keeps_its_bars():
    """Over all pictures at the last exit: 1.5 points, an eighth of int8, a third of the JPEG."""
    setting = load_setting(read_scenario("lte-mobilenet"))
    outcomes, spec = setting.outcomes, setting.spec
    last = len(spec.exits) - 1
    (learned,) = spec.bottlenecks
    behind = outcomes.accuracy(last, LEARNED, learned.cut)
    sent = outcomes.mean_bytes(last, LEARNED, learned.cut)
    assert behind >= outcomes.accuracy(last) - 0.015
    int8_bytes = codec_named("int8").size(spec.shapes[last][learned.cut])
    assert outcomes.accuracy(last, "int8", learned.cut) >= behind
    assert 8 * sent <= int8_bytes
    # the JPEG of about equal accuracy: the one that is nearest, and every better one
    jpegs = {
        c: outcomes.accuracy(last, c) for e, c, _ in outcomes.keys if e == last and c[:4] == "jpeg"
    }
    nearest = min(jpegs, key=lambda c: abs(jpegs[c] - behind))
    assert abs(jpegs[nearest] - behind) < 0.005
    for codec in {nearest} | {c for c, found in jpegs.items() if found >= behind}:
        assert 3 * sent <= outcomes.mean_bytes(last, codec, 0), codec


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("network", "expected a folder with card.json or one of alexnet"),
        ("device_profile", "expected a profile's file or one of edgent-pi3"),
        ("edge_profile", "expected a profile's file or one of edgent-pi3"),
    ],
)
def test_a_scenario_that_names_what_is_not_there_is_refused_with_file_and_field(
    tmp_path, field, expected
):
    text = (SHIPPED / "edgent.toml").read_text()
    value = getattr(read_scenario("edgent"), field)
    assert f'{field} = "{value}"' in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(f'{field} = "{value}"', f'{field} = "mars"'))
    with pytest.raises(UsageError, match=rf"own\.toml, field '{field}': .*'mars', {expected}"):
        read_scenario(path)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("deadline_s = 1.0", "deadline_s = 1e300", "'frames.deadline_s': found 1e+300, expected"),
        ('name = "edgent"', 'name = "../edgent"', "'name': found '../edgent', expected letters"),
        ("deadline_s = 1.0", "deadline_s = 100", "found 100, expected 60 seconds at most"),
        ("deadline_s = 1.0", "deadline_s = nan", "'frames.deadline_s': found nan, expected"),
        ("rtt_s = 0.0", "rtt_s = 30", "'link.rtt_s': found 30, expected 10 seconds at most"),
        ("rtt_s = 0.0", "rtt_s = inf", "'link.rtt_s': found inf, expected 10 seconds at most"),
        ("rtt_s = 0.0", "message_bytes = inf", "'link.message_bytes': found inf, expected 1e+06"),
        ("rtt_s = 0.0", "packet_bytes = inf", "'link.packet_bytes': found inf, expected 1e+06"),
        ("[link]", "[reward]\nmegabyte = inf\n[link]", "'reward.megabyte': found inf, expected"),
        ("[link]", "[reward]\ndevice_second = inf\n[link]", "'reward.device_second': found inf"),
        ('["float32"]', "['uint8', 'uint8']", "'plans.codecs': found 'uint8' twice, expected"),
        (
            "[plans]",
            f"[plans]\nconfidence = {[0.5] * 17}",
            "'plans.confidence': found 17 thresholds, expected 16 at most",
        ),
    ],
)
def test_a_scenario_that_cannot_be_meant_is_refused(tmp_path, was, now, said):
    text = (SHIPPED / "edgent.toml").read_text()
    assert was in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(was, now))
    with pytest.raises(ArtefactError, match=re.escape(said)):
        read_scenario(path)


def test_a_profile_without_times_of_a_heavy_codec_is_refused(tmp_path):

    from artefacts import ArtefactError
    from models.facts.profiles import write_profile

    scenario = read_scenario("lte-mobilenet")
    bare = msgspec.structs.replace(load_setting(scenario).device, codecs=())
    write_profile(tmp_path / "bare.json", bare)
    named = scenario.with_node(0, profile=str(tmp_path / "bare.json"))
    with pytest.raises(ArtefactError, match="field 'codecs': found no time for 'jpeg20'"):
        load_setting(named)


def test_energy_is_of_computing_and_of_sending():
    power = load_setting(read_scenario("lte-mobilenet")).device.power
    assert power is not None
    assert power.source
    quiet = power.energy_j(np.array(0.0), np.array(0.0), np.array(0.0))
    busy = power.energy_j(np.array(0.04), np.array(0.02), np.array(5000.0))
    assert float(quiet) == 0.0
    # 40 ms of a core; 20 ms of radio, and 0.04 Mbit at the watts of a Mbit/s
    assert float(busy) == pytest.approx(
        0.04 * power.compute_w + 0.02 * power.radio_w + 0.04 * power.radio_w_per_mbps
    )
