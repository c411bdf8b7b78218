"""One writer of scenario files serves `coinfer init` and `coinfer profile`."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from coinfer.cli.learning import profile_module
from coinfer.cli.learning.begun import WorldAnswers
from coinfer.cli.learning.first_scenario import frames_of, scenario_text
from coinfer.cli.learning.scenario_file import LINKS, Frames, scenario_file
from controller.scenarios import load_profile
from models.facts.cards import load_model

CODECS = ("float32", "int8c")


@pytest.fixture(scope="module")
def device():
    return load_profile("pi4-one-core", load_model("mobilenetv2"))


def test_both_commands_write_the_same_file(device, tmp_path):
    """But for who it is about, and what is known of the device."""
    path = tmp_path / "net" / "scenario.toml"
    path.parent.mkdir()
    profile_module._write_scenario(path, device, CODECS)
    profiled, begun = path.read_text(), scenario_text("net", WorldAnswers(), device, CODECS)
    first, second = tomllib.loads(profiled), tomllib.loads(begun)
    assert first.pop("description") != second.pop("description")
    assert first == second
    ours = [
        [line for line in text.splitlines() if "description" not in line]
        for text in (profiled, begun)
    ]
    begins = [text.index('device_profile = "device"') for text in ours]
    assert ours[0][begins[0] :] == ours[1][begins[1] :]


def test_names_and_remarks_may_hold_anything():
    text = scenario_file(
        ('a "net"', "line\nbreak"), ("measured\nby hand",), LINKS["3g"], Frames(8.0, 0.25), CODECS
    )
    found = tomllib.loads(text)
    assert (found["name"], found["description"]) == ('a "net"', "line\nbreak")
    assert "# measured by hand\n" in text
    assert found["traces"] == {"family": "norway", "scale": 1}
    assert found["frames"] == {"rate_fps": 8, "deadline_s": 0.25}
    assert found["plans"]["codecs"] == list(CODECS)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "# what suits the device: the fastest usual rate"),
        ({"rate_fps": 7.0}, "# what was not asked for suits the device"),
        ({"deadline_s": 0.3}, "# what was not asked for suits the device"),
        ({"rate_fps": 7.0, "deadline_s": 0.3}, "# as it was asked for\n"),
    ],
)
def test_where_rate_and_deadline_come_from_is_said(device, answers, said):
    asked = msgspec.structs.replace(WorldAnswers(), **answers)
    text = scenario_text("net", asked, device, CODECS)
    assert said in text
    found = tomllib.loads(text)["frames"]
    assert (found["rate_fps"], found["deadline_s"]) == pytest.approx(frames_of(asked, device))


def test_no_other_module_of_the_commands_has_a_template():
    folder = Path(profile_module.__file__).parent
    holds = [p.name for p in folder.glob("*.py") if 'device_profile = "' in p.read_text()]
    assert holds == ["scenario_file.py"]
