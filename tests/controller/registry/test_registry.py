"""One table of controllers: whole, and what everything else takes it from."""

import re
import subprocess
import sys

import pytest

from artefacts import UsageError
from controller import registry
from controller.interface import Measurement, Situation
from controller.registry import (
    SHIPPED,
    ControllerEntry,
    colour_of,
    controller_names,
    default_names,
    find_controller,
    make_controller,
)
from experiments.evaluation.controllers import ControllerFactory, chosen_names
from experiments.reporting import plots

pytestmark = pytest.mark.system

NAMES = [e.name for e in SHIPPED]


@pytest.mark.parametrize("entry", SHIPPED, ids=NAMES)
def test_every_entry_is_whole(entry):
    assert callable(entry.load())
    assert re.fullmatch("#[0-9a-f]{6}", entry.colour)
    assert entry.description.endswith(".")
    assert find_controller(entry.name) is entry


def test_names_and_colours_are_each_one_controller_s():
    assert len(set(NAMES)) == len(NAMES) == len({e.colour for e in SHIPPED})
    assert controller_names()[: len(NAMES)] == tuple(NAMES)


def test_what_runs_unasked_can_serve_the_scenario(stream, closed):
    unasked = {e.name for e in SHIPPED if not e.on_demand}
    hedges = {"fixed-hedged"}
    for setting in (stream, closed):
        has = any(plan.hedge for plan in setting.table.plans)
        assert set(default_names(setting)) == (unasked if has else unasked - hedges)
        assert chosen_names("", setting) == list(default_names(setting))
    with pytest.raises(UsageError, match="of kind 'closed-loop', expected kind 'frame-stream'"):
        chosen_names("device-only,optimum", closed)


def test_a_name_that_there_is_not_is_one_line():
    with pytest.raises(UsageError, match=r"controller: found 'magic', expected one of device-only"):
        find_controller("magic")


def test_hindsight_is_refused_where_there_is_none(stream):
    with pytest.raises(UsageError, match="found 'oracle', expected one that needs no hindsight"):
        make_controller(find_controller("oracle"), ControllerFactory(stream))


def test_a_controller_more_is_an_entry_more(stream, monkeypatch):
    """The 17th: everything that has a list of controllers takes it from the table."""
    entry = ControllerEntry(
        "seventeenth", "controller.registry.factories:bandit", "One.", "#010203"
    )
    monkeypatch.setattr(registry, "SHIPPED", (*SHIPPED, entry))
    assert "seventeenth" in chosen_names("", stream)
    assert plots._style("seventeenth")["color"] == "#010203"
    made = ControllerFactory(stream).maker("seventeenth", ())(0)
    made.observe(Measurement(0.0, 3000, 0.01))
    assert 0 <= made.decide(Situation(0.1, 0, 0.1, 0.0, 0, 0.04)) < len(stream.table)


def test_a_report_is_drawn_where_a_controller_is_not_installed():
    assert re.fullmatch("#[0-9a-f]{6}", colour_of("of another machine"))
    assert colour_of("of another machine") == colour_of("of another machine")


def test_the_table_imports_no_simulator_and_no_torch():
    script = (
        "import sys; from controller.registry import SHIPPED, controller_names; controller_names();"
        "print([m for m in ('torch', 'gymnasium', 'envs', 'experiments') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
