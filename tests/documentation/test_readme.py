"""README: short, true, and what it shows runs."""

import json
import re
import subprocess
import sys

import pytest

from artefacts import data_directory
from coinfer.documentation.shown import ROOT, blocks, pages

README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)\s]+)\)", README)


def test_it_is_short():
    assert len(README.encode()) <= 7 * 1024


def test_it_has_one_table_of_seven_rows_at_most_and_the_command_behind_it():
    tables = re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE)
    assert len(tables) == 1
    assert len(tables[0].splitlines()) - 2 <= 7
    after = README[README.index(tables[0]) :]
    assert "```\ncoinfer compare " in after


@pytest.mark.slow
@pytest.mark.skipif(
    not (data_directory() and (data_directory() / "traces" / "norway_hsdpa").is_dir()),
    reason="the recorded 3G logs are not here",
)
def test_the_table_is_what_its_command_prints():
    """A row a controller, in the command's order."""
    line = re.search(r"^coinfer compare .*$", README, re.MULTILINE)[0]
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.main", *line.split()[1:], "--json"],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=170,
    )  # fmt: skip
    found = json.loads(done.stdout)
    shown = [
        f"{100 * c['goodput_accuracy']:.1f} % | {100 * c['late_share']:.1f} % | "
        f"{c['bytes_per_frame'] / 1000:.1f}"
        for c in found["controllers"].values()
    ]
    rows = re.findall(
        r"^\| .*? \| \**([\d.]+ %)\** \| ([\d.]+ %) \| ([\d.]+) \|$", README, re.MULTILINE
    )
    assert [" | ".join(row) for row in rows] == shown
    assert f"{100 * found['bound']:.1f} %" in README


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_to_a_file_and_a_heading(link):
    path, _, heading = link.partition("#")
    assert link.startswith("https://") or (ROOT / path).exists()
    if heading:
        titles = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
        assert heading in {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "word",
    ["bound", "codec", "cut", "deadline", "exit", "hedge", "local-fallback", "plan", "policy",
     "trace", "controller", "layer", "queue", "algorithm-1", "robust-planner"],
)  # fmt: skip
def test_a_word_of_the_field_is_explained_where_it_stands(word):
    """Where it first stands in a sentence it leads to its page, or to its entry in the glossary."""
    named, page = word.replace("-", " "), rf"\]\(docs/concepts/(?:{word}\.md|glossary\.md#{word})\)"
    prose = re.sub(r"^```.*?^```|!\[.*?\)|`[^`]*`", "", README, flags=re.MULTILINE | re.DOTALL)
    first = re.search(rf"\b{named}s?\b", prose, re.IGNORECASE)
    assert first is not None
    assert re.match(rf"\**{page}", prose[first.end() :]), prose[first.start() :][:60]


@pytest.mark.system
def test_the_lines_of_python_print_what_it_says(tmp_path):
    found = list(blocks(README))
    at = next(k for k, (language, _) in enumerate(found) if language == "python")
    done = subprocess.run(
        [sys.executable, "-c", found[at][1]], capture_output=True, text=True, check=True,
        cwd=tmp_path, timeout=150, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.stdout == found[at + 1][1]


SECTION = re.compile(r"^#+ .*$", re.MULTILINE)
COMMAND = re.compile(r"(coinfer [a-z]|python -m (experiments|coinfer)\.|experiments/studies/)")


@pytest.mark.parametrize(
    "page", [p for p in pages() if p.parent.name == "results"], ids=lambda p: p.stem
)
def test_a_section_of_results_with_a_table_names_its_command(page):
    if page.stem in ("index", "headline", "breadth", "architectures"):
        assert COMMAND.search(page.read_text()) or page.stem == "index"
        return  # one command made the whole page
    text = page.read_text()
    introduction, *sections = SECTION.split(text)[1:]
    for section in sections:
        if re.search(r"^\|", section, re.MULTILINE):
            assert COMMAND.search(section) or COMMAND.search(introduction), section[:200]
