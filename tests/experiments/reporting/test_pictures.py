"""The documentation's drawings: the committed ones are what the scenarios say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from controller.scenarios import load_setting, read_scenario
from experiments.reporting.pictures.__main__ import PICTURES
from experiments.reporting.pictures.concepts import FAST_BPS, WHOLE_TO_EDGE, plan_row
from experiments.reporting.pictures.timeline import frame_of
from experiments.reporting.replay_picture import MARKS, Group

FOLDER = Path(__file__).parents[3] / "docs" / "pictures"


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_committed_picture_is_what_is_drawn(name: str) -> None:
    drawn = str(PICTURES[name]())
    ElementTree.fromstring(drawn)
    committed = (FOLDER / f"{name}.svg").read_text()
    expected = "expected what 'python -m experiments.reporting.pictures' draws"
    assert committed == drawn, f"docs/pictures/{name}.svg: found another drawing, {expected}"


def test_timeline_takes_as_long_as_the_table_says() -> None:
    setting = load_setting(read_scenario("lte-mobilenet"))
    latency_s = setting.table.latency_s(FAST_BPS, setting.scenario.link.rtt_s)
    for name in (str(plan) for plan in setting.table.plans if not plan.gates):
        found = frame_of(setting, name, FAST_BPS)
        assert found.answered_s == pytest.approx(latency_s[plan_row(setting, name)])
        begins = [stage.begin_s for stage in found.stages]
        assert begins == sorted(begins)
    assert WHOLE_TO_EDGE in [str(plan) for plan in setting.table.plans]


def test_the_committed_replay_says_what_its_marks_mean() -> None:
    """It is of real processes, and drawn by hand: its words must be those of what draws it."""
    root = ElementTree.fromstring((FOLDER / "replay.svg").read_text())
    texts = {
        "".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")
    }
    marks = {label for *_, label in MARKS}
    assert marks <= texts, f"expected {sorted(marks)}: draw it again (replay_picture)"
    groups = {text for text in texts if text.startswith("exit ")}
    assert groups <= {Group(e, local).label for e in range(5) for local in (True, False)}
    assert groups
