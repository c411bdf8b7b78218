"""Controllers of other packages: in every command, and broken ones in none but their own."""

import json

import numpy as np
import pytest

from traces.formats import write_csv
from traces.trace import BandwidthTrace

pytestmark = pytest.mark.system
GOOD = {"hermit": "alone:make"}
BAD = {
    "absent": "alone.nowhere:make",
    "misnamed": "alone:mak",
    "listed": "alone:LIST",
    "nothing": "alone:nothing",
    "broken": "alone:broken",
    "lost": "alone:lost",
    "vague": "alone:vague",
    "undecided": "alone:undecided",
    "leaving": "alone:leaving",
    "unready": "alone:unready",
    "deaf": "alone:deaf",
    "unchecked": "alone:unchecked",
}


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, BandwidthTrace("t", np.array([0.0]), np.array([3e6]), 3.0))
    return path


def compare(coinfer, site, trace, names, cwd=None):
    return coinfer(
        site, "compare", "--scenario", "3g-alexnet", "--traces", trace, "--controllers", names,
        "--json", cwd=cwd,
    )  # fmt: skip


def test_compare_runs_it_beside_the_others(installed, hermit, coinfer, trace):
    site = installed("alone", hermit, GOOD)
    done = compare(coinfer, site, trace, "hermit,device-only")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["controllers"]
    assert found["hermit"] == found["device-only"]
    listed = json.loads(coinfer(site, "controllers", "--json").stdout)
    (own,) = [row for row in listed if row["name"] == "hermit"]
    assert own["package"] == "alone"
    assert own["description"] == "Never leaves the device."
    assert own["on_demand"], "what is installed changes no comparison that does not name it"


def test_replay_runs_it_in_a_device_process(installed, hermit, coinfer, trace):
    site = installed("alone", hermit, GOOD)
    done = coinfer(
        site, "replay", "--scenario", "3g-alexnet", "--trace", trace, "--controller", "hermit",
        "--method", "relay", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["controller"] == "hermit"
    assert found["measured"]["frames"] == found["predicted"]["frames"] > 0
    assert found["measured"]["bytes_per_frame"] == 0


def test_evaluate_keeps_it_until_its_package_changes(installed, hermit, coinfer, trace, tmp_path):
    site, study = installed("alone", hermit, GOOD), tmp_path / "study.toml"
    study.write_text(
        'format_version = 1\n[[evaluations]]\nname = "e"\nscenario = "3g-alexnet"\nframes = 20\n'
        f'traces = ["{trace}"]\ncontrollers = ["hermit", "device-only"]\n'
    )
    out = tmp_path / "out"

    def evaluated():
        done = coinfer(site, "evaluate", study, "--out", out)
        assert done.returncode == 0, done.stderr
        found = json.loads((out / "e.evaluation.json").read_text())["controllers"]
        return found["hermit"]["reward"], found["device-only"]["reward"], units()

    def units():
        return {p.name for p in out.rglob("*.npz")}

    mine, theirs, first = evaluated()
    assert mine == theirs
    assert evaluated()[2] == first
    module = site / "alone" / "__init__.py"
    module.write_text(module.read_text() + "\nMORE = 1\n")
    assert len(evaluated()[2] - first) == 1


def test_compare_takes_a_factory_of_the_working_folder(hermit, started, trace, tmp_path):
    (tmp_path / "mine.py").write_text(hermit)
    done = compare(started, None, trace, "mine:make,device-only", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["controllers"]
    assert found["mine:make"] == found["device-only"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "found no module 'alone.nowhere', expected PACKAGE.MODULE:FACTORY"),
        ("misnamed", "found no 'mak' in 'alone', expected PACKAGE.MODULE:FACTORY"),
        ("listed", "found a list, expected a factory or a ControllerEntry"),
        ("nothing", "found a object without reset, observe, record, decide, expected a controller"),
        ("broken", "making it failed: KeyError: 'no such thing'"),
        ("lost", "decided for plan 1000000, expected a whole number of 0 to"),
        ("vague", "decided for plan 0.5, expected a whole number of 0 to"),
        ("undecided", "decide raised ValueError: two lines"),
        ("leaving", "decide raised SystemExit: 7"),
        ("unready", "reset raised OSError: no state"),
        ("unchecked", "its check failed: ZeroDivisionError: in a check"),
        ("deaf", "record raised KeyError: 'frame'"),
    ],
)
def test_a_bad_entry_is_one_line_that_names_package_and_entry(
    installed, hermit, coinfer, trace, name, said
):
    site = installed("alone", hermit, BAD)
    done = compare(coinfer, site, trace, name)
    assert done.returncode == 2
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("coinfer: ")]
    assert f"controller '{name}' of package 'alone' (" in line
    assert said in line
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_one_that_fails_ends_an_evaluation_and_a_replay_in_one_line(
    installed, hermit, coinfer, trace, tmp_path
):
    site, study = installed("alone", hermit, BAD), tmp_path / "study.toml"
    study.write_text(
        'format_version = 1\n[[evaluations]]\nname = "e"\nscenario = "3g-alexnet"\nframes = 20\n'
        f'traces = ["{trace}"]\ncontrollers = ["device-only", "undecided"]\n'
    )
    for argv in (
        ("evaluate", study, "--out", tmp_path / "out"),
        ("replay", "--scenario", "3g-alexnet", "--trace", trace, "--controller", "undecided",
         "--method", "relay"),
    ):  # fmt: skip
        done = coinfer(site, *argv)
        assert done.returncode == 2, done.stderr
        assert "decide raised ValueError: two lines" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_package_that_cannot_be_imported_breaks_nothing_else(installed, hermit, coinfer, trace):
    site = installed("alone", "raise RuntimeError('not today')", GOOD | {"learned": "alone:make"})
    done = compare(coinfer, site, trace, "device-only,learned")
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "package 'alone'" in one]
    assert "found the name of a controller of coinfer's own, 'learned'" in line
    rows = {row["name"]: row for row in json.loads(coinfer(site, "controllers", "--json").stdout)}
    assert "importing 'alone' failed: RuntimeError: not today" in rows["hermit"]["fault"]
    done = compare(coinfer, site, trace, "hermit")
    assert done.returncode == 2
    assert "importing 'alone' failed: RuntimeError: not today" in done.stderr


def test_a_name_of_two_packages_is_neither_s(installed, hermit, coinfer, trace):
    installed("alone", hermit, GOOD)
    site = installed("other", hermit, {"hermit": "other:make"})
    done = compare(coinfer, site, trace, "hermit")
    assert done.returncode == 2
    assert "found the name 'hermit' in several packages ('alone', 'other')" in done.stderr
    assert compare(coinfer, site, trace, "device-only").returncode == 0
