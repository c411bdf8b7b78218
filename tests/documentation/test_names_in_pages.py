"""What pages name exists: files of the repository, modules that are run, pictures."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
OTHERS = ("tests", "deploy", "docs", "examples")
AT_TOP = ("README.md", "SECURITY.md", "CONTRIBUTING.md")
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in AT_TOP)]
LONGEST_CONCEPT = 60

READERS = {"models/codecs/bfloat.py", "controller/planners/quickest.py"}
"""Files that a reader of a page writes."""
FIELDS = {"test_accuracies"}
"""Fields of files: no names of tests."""
ENVIRONMENT = re.compile(r"-v[0-9]+$")

path_in_text = re.compile(rf"`((?:{'|'.join((*ROOMS, *OTHERS))})/[\w./*-]*)`")
test_file = re.compile(r"`(test_\w+\.py)`")
test_function = re.compile(r"`(test_\w+?)(?:_?\.\.\.)?`")
module_run = re.compile(r"python -m ([\w.]+)")


def _missing_paths(text: str) -> Iterator[str]:
    for found in path_in_text.findall(text):
        known = found in READERS or ENVIRONMENT.search(found)
        if not known and not any(ROOT.glob(found.rstrip("/"))):
            yield found


def _missing_modules(text: str) -> Iterator[str]:
    for name in module_run.findall(text):
        if name.split(".")[0] in ROOMS and importlib.util.find_spec(name) is None:
            yield name


def _missing_tests(text: str) -> Iterator[str]:
    """Files of tests, and tests, that are named without their folder; a name may end in '...'."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    names = {file.name for file in files}
    yield from (found for found in test_file.findall(text) if found not in names)
    if test_function.search(text):
        written = "\n".join(file.read_text() for file in files)
        named = (found for found in test_function.findall(text) if found not in FIELDS)
        yield from (found for found in named if f"def {found}" not in written)


def _tables_below_text(text: str) -> list[str]:
    """Lines above which begins no table, as what is above them is no blank line."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(?!\|)(\S.*)\n\|", outside, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_table_has_a_blank_line_before_it(page: Path) -> None:
    assert _tables_below_text(page.read_text()) == []


def test_a_table_that_is_none_is_found() -> None:
    assert _tables_below_text("# A\n\n| a |\n|---|\n| b |\n```\nx\n| y\n```\n") == []
    assert _tables_below_text("Some text.\n| a |\n|---|\n| b |\n") == ["Some text."]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    assert list(_missing_paths(text)) == []
    assert list(_missing_modules(text)) == []
    assert list(_missing_tests(text)) == []


def test_a_path_or_module_that_is_not_there_is_found() -> None:
    assert list(_missing_paths("see `controller/no_such.py` and `controller/plans.py`")) == [
        "controller/no_such.py"
    ]
    assert list(_missing_modules("python -m experiments.no_such")) == ["experiments.no_such"]
    named = "`test_no_such.py`, `test_no_such`, `test_no_such_...`, `test_names_in_pages.py`"
    assert list(_missing_tests(named)) == ["test_no_such.py", "test_no_such", "test_no_such"]


CONCEPTS = [page for page in PAGES if page.parent.name == "concepts" and page.stem != "glossary"]


@pytest.mark.parametrize("page", CONCEPTS, ids=lambda page: page.stem)
def test_a_concept_is_short_and_shows_something(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= LONGEST_CONCEPT
    assert page.stem == "index" or "](../pictures/" in text or "`coinfer " in text
