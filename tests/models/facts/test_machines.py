"""Published factors of machines, and profiles that are made of them or merged."""

import msgspec
import pytest

from artefacts import ArtefactError, UsageError
from models.facts.cards import load_model
from models.facts.machines import MACHINES, NETWORKS, REFERENCE_MS, machine_named, published_profile
from models.facts.merging import merge_profile, timed_codecs, write_published
from models.facts.profiles import read_profile, write_profile


@pytest.fixture
def measured():
    return read_profile(load_model("mobilenetv2").folder / "profiles" / "edge-x86.json")


def test_factors_follow_from_the_published_times():
    assert {len(m.core_ms) for m in MACHINES} == {len(NETWORKS)} == {len(REFERENCE_MS)}
    for machine in MACHINES:
        assert min(machine.ratios) < machine.factor < max(machine.ratios)
        assert "not measured" in machine.source
    by_name = {m.name: m.factor for m in MACHINES}
    # a Pi 3's core is slower than a Pi 4's, and that than a Pi 5's
    assert by_name["pi3"] > by_name["pi4"] > by_name["pi5"]
    assert machine_named("pi4").ratios[NETWORKS.index("mobilenet_v2")] == pytest.approx(
        92.98 / 10.69
    )
    # half precision counts twice
    assert machine_named("pi5").ratios[2] == pytest.approx(2 * 16.21 / 10.69)
    with pytest.raises(UsageError, match="device: found 'pi9', expected one of pi3, pi4"):
        machine_named("pi9")


def test_a_published_profile_is_held_against_this_machine(measured):
    pi4 = machine_named("pi4")
    as_reference = published_profile(measured, pi4, 10.69e-3)
    faster_here = published_profile(measured, pi4, 10.69e-3 / 2)
    whole = measured.interval_s(4, 0, len(measured.branches[4]))
    count = len(measured.branches[4])
    assert as_reference.interval_s(4, 0, count) == pytest.approx(pi4.factor * whole)
    assert faster_here.interval_s(4, 0, count) == pytest.approx(2 * pi4.factor * whole)
    # codecs gain nothing by a machine's wide vectors
    assert faster_here.codecs == as_reference.codecs
    assert as_reference.codecs[0].encode_s == pytest.approx(
        pi4.factor * measured.codecs[0].encode_s
    )
    assert as_reference.name == "pi4"
    assert "published, not measured" in as_reference.transcribed
    assert as_reference.host is None
    with pytest.raises(UsageError, match="anchor_s: found 0"):
        published_profile(measured, pi4, 0.0)


@pytest.fixture
def copied(tmp_path, measured):
    """A model's folder with a measured profile."""
    shipped = load_model("mobilenetv2").folder
    for path in shipped.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    write_profile_in(tmp_path, "edge", measured)
    return load_model(tmp_path)


def write_profile_in(folder, name, profile):
    (folder / "profiles").mkdir(exist_ok=True)
    write_profile(folder / "profiles" / f"{name}.json", profile)


def test_published_profiles_are_written_beside_the_measured_one(copied, measured):
    made = write_published(copied, 6e-3, measured.host)
    assert [p.name for p in made] == [m.name for m in MACHINES]
    for profile in made:
        assert read_profile(copied.folder / "profiles" / f"{profile.name}.json") == profile
    other = msgspec.structs.replace(measured.host, processor="another one")
    with pytest.raises(ArtefactError, match=r"edge\.json, field 'host'.*expected this machine as"):
        write_published(copied, 6e-3, other)
    (copied.folder / "profiles" / "edge.json").unlink()
    with pytest.raises(UsageError, match=r"found no '.*edge\.json', expected a folder that"):
        write_published(copied, 6e-3, measured.host)


def test_what_was_measured_takes_the_place_of_what_was_published(copied, measured, tmp_path):
    published = published_profile(measured, machine_named("pi4"), 6e-3)
    write_profile_in(copied.folder, "device", published)
    assert timed_codecs(copied) == tuple(dict.fromkeys(c.codec for c in measured.codecs))
    there = merge_profile(copied, measured, tmp_path / "pi.json")
    assert read_profile(there).transcribed is None
    assert read_profile(there).name == "device"
    assert read_profile(copied.folder / "profiles" / "device-before.json") == published
    bare = msgspec.structs.replace(measured, codecs=())
    with pytest.raises(ArtefactError, match=r"pi\.json, field 'codecs'.*--on-device"):
        merge_profile(copied, bare, tmp_path / "pi.json")
    other = msgspec.structs.replace(measured, network_digest="0" * 64)
    with pytest.raises(ArtefactError, match="network_digest"):
        merge_profile(copied, other, tmp_path / "pi.json")
