"""Variants of the policy: each differs as it says, is kept, and is held against the whole."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replaced

from artefacts import write_json
from controller.policies.features import WORLD
from controller.policies.observation import CONTEXT, DESCRIBED
from controller.scenarios import Prices, read_scenario
from experiments.analyses.ablations import (
    CHANGE,
    HISTORY,
    VARIANTS,
    Result,
    ablated,
    matrix_of,
    row,
    run,
)
from experiments.evaluation.statistics import paired
from experiments.learning.training import TrainArgs
from experiments.reporting.report import write_report

TINY = TrainArgs(
    frames=0, planning_backlogs=3, planning_sweeps=3, lanes=4, batch=16, episode_frames=4,
    validation_frames=5, blind_s=0.5,
)  # fmt: skip


def test_every_variant_is_what_its_name_says():
    whole, trained_in = ablated("3g-mobilenet", VARIANTS["everything"])
    assert trained_in is whole
    table = {name: ablated("3g-mobilenet", v)[0].table for name, v in VARIANTS.items() if v.plans}
    assert not np.isfinite(table["no answers on the way"].rescue_s).any()
    assert np.isfinite(whole.table.rescue_s).any()
    assert not table["no stopping on confidence"].gated.any()
    assert whole.table.gated.any()
    assert any(plan.hedge for plan in table["with hedging"].plans)
    priced = ablated("3g-mobilenet", VARIANTS["everything"], Prices(0.5, 3.0))[0].table.plans
    assert any(plan.hedge for plan in priced)
    without = ablated("3g-mobilenet", VARIANTS["without hedging"], Prices(0.5, 3.0))[0].table.plans
    assert not any(plan.hedge for plan in without)
    codecs = {hop.codec for plan in table["one codec a kind"].plans for hop in plan.hops}
    assert codecs == {"int8c", "jpeg75"}
    hidden = {name for v in VARIANTS.values() for name in v.training.get("without", ())}
    assert set(HISTORY) | set(CHANGE) | set(WORLD) == hidden
    assert hidden <= set(CONTEXT) | set(DESCRIBED)


def test_what_a_variant_leaves_out_of_the_world_is_judged_in_all_the_same():
    own = read_scenario("3g-mobilenet").world
    worlds = {}
    for title, variant in VARIANTS.items():
        if variant.world:
            judged, trained_in = ablated("3g-mobilenet", variant)
            assert judged.scenario.world == own
            worlds[title] = trained_in.scenario.world
    assert len({repr(world) for world in [own, *worlds.values()]}) == 1 + len(worlds)
    assert worlds["trained without a world"].tidy
    assert worlds["trained with an edge of its own"] == replaced(
        own, edge=replaced(own.edge, load=None)
    )
    assert not worlds["trained in even seconds"].sub_second


def test_results_are_kept_and_made_anew_where_something_changed(tmp_path, monkeypatch):
    # hedging is not among the scenario's plans and nothing is learnt: nothing to take away
    few = ("everything", "each frame for itself")
    asked = (*few[1:], "without hedging", "planning alone", "no change points")
    said = []
    first = run("3g-alexnet", TINY, [0], 30, tmp_path, said.append, asked)
    assert tuple(line.split("|")[1].strip() for line in said) == few
    assert np.mean(first["everything"].rewards) > np.mean(first["each frame for itself"].rewards)

    def never(*args):
        raise AssertionError("run again")

    with monkeypatch.context() as patched:
        patched.setattr("experiments.analyses.ablations.measured", never)
        assert run("3g-alexnet", TINY, [0], 30, tmp_path, said.append, few[1:]) == first
        with pytest.raises(AssertionError, match="run again"):
            run("3g-alexnet", replace(TINY, planning_sweeps=4), [0], 30, tmp_path, said.append, few)


def test_a_line_is_the_paired_difference_in_points():
    whole = Result(1, "", ((0.5, 0.6, 0.7), (0.7, 0.6, 0.5)))
    other = Result(1, "", ((0.55, 0.65, 0.75), (0.65, 0.55, 0.45)))
    reported = paired(np.array([0.6, 0.6, 0.6]), np.array([0.6, 0.6, 0.6]), 0)
    assert row("x", other, whole).startswith(f"| x | 0.6000 | {100 * reported.mean:+.2f} |")
    assert row("all", whole, whole) == "| all | 0.6000 | | | |"


def test_the_matrix_is_what_the_lines_say(tmp_path):
    whole = Result(1, "", ((0.5, 0.6, 0.7), (0.7, 0.6, 0.5)))
    other = Result(1, "", ((0.55, 0.55, 0.55), (0.45, 0.45, 0.45)))
    x = "with hedging"
    found = {"two": {"everything": whole}, "one": {"everything": whole, x: other}}
    made = matrix_of("ablations", found, 2)
    assert (made.rows, made.columns) == ((x,), ("two", "one"))
    ((none, cell),) = made.cells
    assert none is None
    assert cell is not None
    assert f"{100 * cell.mean:+.2f}" == row(x, other, whole).split("|")[3].strip()
    assert (cell.traces, cell.seeds) == (3, 2)
    write_json(tmp_path / "ablations.matrix.json", made)
    reported = write_report(tmp_path, tmp_path / "r.html", markdown=tmp_path / "t.md")
    missing = [line for line in reported.missing if "ablations" in line]
    assert missing == ["matrix 'ablations': 1 cells not evaluated"]
    assert f"| {x} | " in (tmp_path / "t.md").read_text()
