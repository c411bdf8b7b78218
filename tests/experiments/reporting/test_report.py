"""The report of real, tiny runs on generated traces: self-contained, whole, and what JSON says."""

import json
import shutil
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from tiny_study import COMMAND

from artefacts import CoinferError, write_json
from experiments.reporting import tables
from experiments.reporting.report import read_results, write_report
from experiments.studies.results import Against, Cell, Matrix, read_evaluation

pytestmark = pytest.mark.slow  # runs whole evaluations

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a page holds, and refuses tags that are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.tags, self.text = [], [], [], []
        self.tables, self.ids, self.svg_roots = [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self._seen(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self._seen(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def _seen(self, tag, attrs):
        self.tags.append(tag)
        self.svg_roots += tag == "svg"
        for name, value in attrs:
            self.attributes.append((name, value))
            if name == "id":
                self.ids.append(value)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    files = write_report(results, out / "report.html", out / "table.md", out / "front.png")
    assert files.files == tuple(str(out / n) for n in ("report.html", "table.md", "front.png"))
    return out


@pytest.fixture(scope="module")
def page(written):
    return Page((written / "report.html").read_text())


def test_the_page_needs_nothing_beside_it(page, written):
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href", "srcset", "action", "data"):
            assert value.startswith(("#", "data:image/png;base64,")), (name, value[:80])
        assert not name.startswith("on")
    text = (written / "report.html").read_text()
    for outside in ("http:", "https:", "@import", "url(//", "file:"):
        assert outside not in text


def test_references_inside_the_page_lead_somewhere(page, written):
    assert len(page.ids) == len(set(page.ids))
    text = (written / "report.html").read_text()
    named = {v[1:] for n, v in page.attributes if n == "href" and v.startswith("#")}
    named |= {part.split(")")[0] for part in text.split("url(#")[1:]}
    assert named
    assert named <= set(page.ids)


def test_the_page_has_every_section_and_plot(page):
    for name in ("stream", "loop", "pi4", "away"):
        assert f"evaluation-{name}" in page.ids
        for kind in ("series", "latency", "differences", "map"):
            assert f"plot-{name}-{kind}" in page.ids
    assert "plot-stream-deadlines" in page.ids
    assert "plot-loop-deadlines" not in page.ids
    assert "plot-stream-front" in page.ids
    assert "plot-loop-front" not in page.ids
    assert {"command", "missing", "reading", "matrices", "provenance"} <= set(page.ids)
    assert "matrix-generalisation" in page.ids
    assert page.svg_roots == 4 * 4 + 1 + 3
    assert sum(n == "aria-label" for n, _ in page.attributes) == page.svg_roots


def rows_of(page, label):
    """The table that has `label` in its first column's cells, by first column."""
    for table in page.tables:
        if any(row[0] == label for row in table[1:]):
            return table[0], {row[0]: row for row in table[1:]}
    raise AssertionError(label)


def test_the_page_s_figures_are_those_of_the_json(page, results):
    plain = json.loads((results / "stream.evaluation.json").read_text())
    columns, rows = rows_of(page, "learned (2 seeds)")
    own = plain["controllers"]["learned"]
    learned = dict(zip(columns, rows["learned (2 seeds)"], strict=True))
    assert learned["goodput accuracy"] == f"{100 * own['goodput_accuracy']:.2f} %"
    assert learned["late"] == f"{100 * own['late_share']:.2f} %"
    assert learned["bytes/frame"] == f"{own['bytes_per_frame']:.0f}"
    assert learned["share of bound"] == f"{own['share_of_bound']:.4f}"
    low, high = own["interval95"]
    assert learned["95 % interval"] == f"{low:.4f} to {high:.4f}"
    best = plain["headline"]["best_baseline"]
    over = own["against_best"]
    low, high = (100 * end for end in over["interval95"])
    assert (
        learned[f"over {best}, points"] == f"{100 * over['mean']:+.2f} ({low:+.2f} to {high:+.2f})"
    )
    assert learned["p (adjusted)"].startswith(tables.p_text(over["p_value"]))
    assert rows[best][-2] == "(this one)"
    assert "oracle (not deployable)" in rows
    order = [c["trace_reward"] for c in plain["controllers"].values()]
    first = next(r for t in page.tables if t[0] == columns for r in t[1:])
    assert plain["controllers"][first[0].split(" ")[0]]["trace_reward"] == max(order)
    mine, theirs = (plain["controllers"][n]["per_trace"] for n in ("learned", best))
    deviations = [mine[trace] - theirs[trace] for trace in plain["traces"]]
    assert over["mean"] == pytest.approx(np.mean(deviations))
    assert over["worst"] == pytest.approx(min(deviations))


def test_the_page_names_what_it_was_made_from(page, results):
    text = "".join(page.text)
    assert COMMAND in text
    for name in ("stream", "loop", "pi4", "away"):
        found = read_evaluation(results / f"{name}.evaluation.json")
        for digest in (found.scenario_digest, found.model_digest, found.traces_digest,
                       *(p.digest for p in found.policies)):  # fmt: skip
            assert digest in text
        for trace in found.traces:
            assert trace in text
        assert found.source in text
    assert np.__version__ in text
    assert "14 test files" in text
    assert "8 test files" in text
    assert "2 seeds" in text


def test_generated_traces_are_said_loudly(page, written):
    assert sum(v == "warning" for n, v in page.attributes if n == "class") >= 4
    assert "".join(page.text).count("GENERATED TRACES, not recorded ones") >= 4
    assert "GENERATED TRACES, not recorded ones" in (written / "table.md").read_text()
    _, rows = rows_of(page, "Norway")
    assert all("GENERATED" in cell for cell in rows["Norway"][1:])


def test_a_mode_of_one_file_has_no_claim(page, results):
    modes = read_evaluation(results / "stream.evaluation.json").headline.modes
    assert modes["car"].files == 1
    rows = next(
        {row[0]: row for row in t[1:]} for t in page.tables if t[0][0] == "mode" and "car" in str(t)
    )
    assert rows["car"][1:] == ["1", "no claim from one file", "", ""]
    assert rows["tram"][1] == "4"
    assert rows["tram"][3] == tables.p_text(modes["tram"].against.p_value)


def test_of_one_file_there_is_no_interval_and_no_p():
    one = Against("robust", 0.005, (0.005, 0.005), 1.0, True, 1, 0.005, "only", p_adjusted=1.0)
    assert tables._against(one, False) == ["+0.50", "none (one file)"]
    two = msgspec.structs.replace(one, traces=2, interval95=(0.001, 0.009), p_value=0.5)
    assert tables._against(two, False) == ["+0.50 (+0.10 to +0.90)", "0.5000 (1.0000)"]


def test_missing_parts_are_named(results, written, page):
    missing = read_results(results).missing
    for part in (
        "evaluation 'loop': only one seed of the learned policy",
        "evaluation 'loop': no accuracy against deadline",
        "evaluation 'loop': no front of accuracy against energy (closed loop)",
        "evaluation 'stream': no energy, the device's profile has no power model",
        "evaluation 'stream': no claim about car, train: one test file each",
        "evaluation 'stream': 30 frames a trace at most, not whole traces",
    ):
        assert part in missing
        assert part in "".join(page.text)
        assert f"- {part}" in (written / "table.md").read_text()
    assert "evaluation 'stream': no accuracy against deadline" not in missing
    assert "evaluation 'stream': only one seed of the learned policy" not in missing
    assert not any("matrix" in line for line in missing), "none was planned that is not there"


def test_what_was_planned_and_is_not_there_is_named(results, tmp_path):
    shutil.copytree(results, tmp_path / "r", ignore=shutil.ignore_patterns("units"))
    (tmp_path / "r" / "loop.evaluation.json").unlink()
    (tmp_path / "r" / "generalisation.matrix.json").unlink()
    missing = read_results(tmp_path / "r").missing
    assert "evaluation 'loop': planned, no results" in missing
    assert "matrix 'generalisation': no results" in missing
    (tmp_path / "r" / "study.json").unlink()
    found = read_results(tmp_path / "r")
    assert "study.json: the command that made these results" in found.missing
    assert [e.name for e in found.evaluations] == ["away", "pi4", "stream"]
    text = write_report(tmp_path / "r", tmp_path / "r.html")
    assert text.missing == found.missing


def markdown_tables(text):
    blocks = [b for b in text.split("\n\n") if b.startswith("|")]
    return [[[c.strip() for c in line[1:-1].split("|")] for line in b.splitlines()] for b in blocks]


def test_markdown_says_the_same_as_the_page(written, page, results):
    found = markdown_tables((written / "table.md").read_text())
    assert all(len({len(row) for row in table}) == 1 for table in found)
    for table in found:
        assert set("".join(table[1])) == {"-"}
        assert [table[0], *table[2:]] in page.tables
    assert len(found) == 5
    assert [t[0] for t in found][:1] == [
        tables.controller_rows(read_evaluation(results / "stream.evaluation.json"))[0]
    ]


def test_the_same_results_give_the_same_bytes(results, written, tmp_path):
    before = {p.name: p.read_bytes() for p in written.iterdir()}
    write_report(results, tmp_path / "report.html", tmp_path / "table.md", tmp_path / "front.png")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    write_report(results, tmp_path / "dated.html", front=tmp_path / "front.svg", date="7 May 2026")
    dated = (tmp_path / "dated.html").read_text()
    assert dated.replace("<p>7 May 2026</p>", "").encode() == before["report.html"]
    first = (tmp_path / "front.svg").read_bytes()
    write_report(results, tmp_path / "dated.html", front=tmp_path / "front.svg")
    assert (tmp_path / "front.svg").read_bytes() == first
    assert b"<svg" in first
    assert before["front.png"].startswith(b"\x89PNG")


def test_names_are_text_and_no_markup(results, page):
    assert "A <tiny> study" in "".join(page.text)
    assert "tiny" not in page.tags


def changed(folder, name, change):
    path = folder / name
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "loop.evaluation.json").write_text("{"), "expected valid JSON"),
        (
            lambda f: changed(f, "loop.evaluation.json", lambda d: d.update(bound="x")),
            "loop.evaluation.json, field 'bound': found text",
        ),
        (
            lambda f: changed(f, "loop.evaluation.json", lambda d: d.update(more=1)),
            "unknown field 'more'",
        ),
        (
            lambda f: changed(f, "loop.evaluation.json", lambda d: d.update(name="other")),
            "field 'name': found 'other', expected 'loop', the file's",
        ),
        (
            lambda f: changed(f, "generalisation.matrix.json", lambda d: d["rows"].append("x")),
            "field 'cells': found rows of [2] cells, expected 2 rows of 2",
        ),
        (
            lambda f: changed(f, "generalisation.matrix.json", lambda d: d.pop("figure")),
            "generalisation.matrix.json",
        ),
        (
            lambda f: changed(f, "study.json", lambda d: d.update(format_version=2)),
            "study.json, field 'format_version': found 2, expected 1",
        ),
    ],
)
def test_a_bad_result_file_is_one_clear_line(results, tmp_path, harm, said):
    folder = tmp_path / "r"
    shutil.copytree(results, folder, ignore=shutil.ignore_patterns("units"))
    harm(folder)
    with pytest.raises(CoinferError) as caught:
        write_report(folder, tmp_path / "r.html")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r.html").exists()


def test_no_results_are_said(tmp_path):
    with pytest.raises(CoinferError, match="found no such folder"):
        write_report(tmp_path / "nowhere", tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CoinferError, match="found no results, expected"):
        write_report(tmp_path / "empty", tmp_path / "r.html")


def test_a_front_is_a_picture(results, tmp_path):
    with pytest.raises(CoinferError, match=r"expected a name in \.png or \.svg"):
        write_report(results, tmp_path / "r.html", front=tmp_path / "front.jpg")
    assert not list(tmp_path.iterdir())


def test_a_matrix_of_somebody_else_is_shown(results, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(results, folder, ignore=shutil.ignore_patterns("units"))
    cells = ((Cell(0.5, (0.4, 0.6), 8, 5), None), (Cell(0.25), Cell(0.75, p_value=0.03, note="n")))
    made = Matrix(1, "ablations", "reward", "without", "scenario", ("warm | start", "map"),
                  ("lte", "3g"), cells)  # fmt: skip
    write_json(folder / "ablations.matrix.json", made)
    reported = write_report(folder, tmp_path / "r.html", tmp_path / "t.md")
    assert "matrix 'ablations': 1 cells not evaluated" in reported.missing
    _, rows = rows_of(Page((tmp_path / "r.html").read_text()), "map")
    assert rows["warm | start"][1:] == [
        "0.5000 (0.4000 to 0.6000), 8 test files, 5 seeds", "not evaluated",
    ]  # fmt: skip
    assert rows["map"][1:] == ["0.2500", "0.7500, p 0.0300, n"]
    assert "warm \\| start" in (tmp_path / "t.md").read_text()


def test_traces_seen_in_training_and_a_missing_policy_are_said_loudly(results, tmp_path):
    found = read_evaluation(results / "pi4.evaluation.json")
    bare = {n: c for n, c in found.controllers.items() if n != "learned"}
    shown = msgspec.structs.replace(
        found, name="bare", headline=None, policies=(), controllers=bare, series=None, map=None,
        seen_in_training=found.traces[:1],
    )  # fmt: skip
    write_json(tmp_path / "r" / "bare.evaluation.json", shown)
    reported = write_report(tmp_path / "r", tmp_path / "r.html")
    for part in ("no learned policy, nothing is claimed", "no time series", "no configuration map"):
        assert f"evaluation 'bare': {part}" in reported.missing
    text = "".join(Page((tmp_path / "r.html").read_text()).text)
    assert "SEEN IN TRAINING: 1 of 8 test files" in text
    assert "No learned policy was evaluated: nothing is claimed." in text
