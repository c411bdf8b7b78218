"""Pages of results say what their records, their reports and their commands say."""

import json
import os
import re
import shutil

import pytest

from artefacts import ArtefactError
from coinfer.documentation.results import records
from coinfer.documentation.results.__main__ import made_anew
from coinfer.documentation.results.made import MADE
from coinfer.documentation.results.records import (
    RESULTS,
    KeptTable,
    read_record,
    recorded_pages,
    results_page,
)
from coinfer.documentation.results.reports import CELL, LEARNED, REPORTED, matrix_rows, section

GENERATED = {"headline", "breadth", "architectures", "audit"}
"""Pages that a command writes as a whole."""
AT_ONCE = [key for key in MADE if key[0] != "traces"]
"""Those of traces take a minute and a half, and the recorded logs."""


def kept(page, name):
    (found,) = [one for one in read_record(page).tables if one.name == name]
    return found


def test_every_table_of_results_is_kept_or_written_by_its_command():
    shown = {
        path.stem
        for path in RESULTS.glob("*.md")
        if re.search(r"^\| ?---", path.read_text(), re.MULTILINE)
    }
    assert shown - GENERATED - {"index"} == set(recorded_pages())
    for page in recorded_pages():
        tables = re.findall(r"^\| ?---", (RESULTS / f"{page}.md").read_text(), re.MULTILINE)
        assert len(tables) == len(read_record(page).tables) + 1, "and that of the sources"


def test_every_table_says_where_it_comes_from():
    for page in recorded_pages():
        for one in read_record(page).tables:
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.date), (page, one.name)
            assert re.fullmatch(r"[0-9a-f]{7,12}", one.commit), (page, one.name)
            assert one.command, (page, one.name)
            key = (page, one.name)
            made = {"output", "outcomes"} if key in MADE else {"report"}
            assert one.source in (made if key in MADE or key in REPORTED else {"printed"})


@pytest.mark.parametrize("key", REPORTED, ids="/".join)
def test_what_shortens_a_report_is_what_the_report_says(key):
    assert kept(*key).rows == tuple(REPORTED[key]())


def test_the_learned_policy_s_page_says_what_the_headline_tables_say():
    rows = kept("learned-policy", "against-every-other-controller").rows
    assert len(rows) == 6
    for scenario, learned, best, alone, difference, p, worst, gap in rows:
        name = re.findall(r"`([\w-]+)`", scenario)[0]
        report = section("headline", name)
        found = LEARNED.search(report)
        over, points = found["over"], [found[k] for k in ("mean", "low", "high")]
        assert re.findall(r"[+-]?\d+\.\d+", difference) == [points[0], *strip(points[1:])]
        assert float(p) == pytest.approx(float(found["p"]), rel=0.03, abs=6e-5)
        assert f"({over})" in best
        assert f"{worst}." in re.search(r"^- Any one .*", report, re.MULTILINE)[0]
        if name == "edgent":
            continue  # mean rewards with logs counted equally: the report's are of all frames
        shares = dict(re.findall(r"^\| ([\w-]+).*? \| (\d\d\.\d\d %)", report, re.MULTILINE))
        assert learned.strip("*") == shares["learned"]
        assert (best.partition(" (")[0], alone) == (shares[over], shares["device-only"])
        closed = re.search(r"([\d.]+) is closed \(95 % interval ([\d.]+) to ([\d.]+)\)", report)
        for said, value in zip(re.findall(r"[\d.]+", gap), closed.groups(), strict=True):
            assert abs(float(said) - float(value)) <= 0.0051


def strip(signed):
    return [one.removeprefix("+") for one in signed]


def test_the_ablations_page_says_what_the_report_says():
    matrix = matrix_rows("breadth", "ablations (against_everything)")
    scenarios = ("3g-mobilenet", "lte-mobilenet", "3g-mobilenet-priced", "lte-mobilenet-priced")
    compared = 0
    for k, scenario in enumerate(scenarios):
        own = {row[0]: row[2:] for row in kept("ablations", f"parts-of-planning-{scenario}").rows}
        for variant, *cells in matrix:
            match = CELL.match(cells[k])
            if match is None:
                assert variant not in own
                continue
            points, interval, p = own[variant]
            assert (points, interval) == (match["mean"], f"{match['low']} to {match['high']}")
            assert abs(float(p) - float(cells[k].rpartition(" p ")[2])) <= 0.00051
            compared += 1
    assert compared == 32


@pytest.fixture(scope="module")
def outputs():
    return {}


@pytest.fixture
def run(forked, outputs, tmp_path):
    """The JSON of a command, run once for all tests; no recorded logs are there."""

    def once(*argv):
        if argv not in outputs:
            env = os.environ | {"COINFER_DATA": str(tmp_path)}
            done = forked("coinfer.cli.main", *argv, "--json", env=env)
            assert done.returncode == 0, done.stderr
            outputs[argv] = json.loads(done.stdout)
        return outputs[argv]

    return once


@pytest.mark.system
@pytest.mark.parametrize("key", AT_ONCE, ids="/".join)
def test_what_takes_seconds_is_what_its_command_gives(key, run):
    found = tuple(MADE[key](run))
    for now, before in zip(found, kept(*key).rows, strict=True):
        for cell, other in zip(now, before, strict=True):
            # another machine's libraries may round the last digit otherwise
            numbers = [re.findall(r"[+-]?[\d,]*\.?\d+", one) for one in (cell, other)]
            assert re.sub(r"[\d.,+-]", "", cell) == re.sub(r"[\d.,+-]", "", other)
            for one, two in zip(*numbers, strict=True):
                last = 10.0 ** -len(two.partition(".")[2])
                assert abs(number(one) - number(two)) <= 1.01 * last, (key, now)


def number(text):
    return float(text.replace(",", ""))


TABLE = KeptTable(
    "codecs", "coinfer bench codecs", "2026-01-01", "1234567", "printed", ("a",), (("1",),)
)  # fmt: skip


def test_rows_that_stay_keep_their_date_and_those_that_do_not_get_another(monkeypatch):
    monkeypatch.setitem(MADE, ("codecs", "codecs"), lambda run: [("1",)])
    again = made_anew("codecs", TABLE, "7654321", "2026-02-02")
    assert (again.date, again.commit, again.source) == ("2026-01-01", "1234567", "output")
    monkeypatch.setitem(MADE, ("codecs", "codecs"), lambda run: [("2",)])
    other = made_anew("codecs", TABLE, "7654321", "2026-02-02")
    assert (other.date, other.commit, other.rows) == ("2026-02-02", "7654321", (("2",),))
    assert made_anew("speed", TABLE, "7654321", "2026-02-02") == TABLE


def test_a_page_and_a_record_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    shutil.copytree(RESULTS, tmp_path / "results")
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    assert results_page("codecs") == (RESULTS / "codecs.md").read_text()
    path = tmp_path / "results" / "records" / "codecs.json"
    plain = json.loads(path.read_text())
    plain["tables"][0]["rows"][3].pop()
    path.write_text(json.dumps(plain))
    with pytest.raises(ArtefactError, match="found a row of 4 cells, expected 5"):
        results_page("codecs")
    plain["tables"] = []
    path.write_text(json.dumps(plain))
    with pytest.raises(
        ArtefactError, match="codecs.md, field 'tables': found codecs, expected none"
    ):
        results_page("codecs")
