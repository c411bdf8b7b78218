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
OURS = ("concepts", "architecture", "tutorials", "how-to", "method")
PAGES = sorted(page for folder in OURS for page in (ROOT / "docs" / folder).glob("*.md"))
LONGEST_CONCEPT = 60

READERS = {"models/codecs/bfloat.py"}
"""Files that a reader of a page writes."""
ENVIRONMENT = re.compile(r"-v[0-9]+$")

path_in_text = re.compile(rf"`((?:{'|'.join((*ROOMS, *OTHERS))})/[\w./*-]*)`")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    assert list(_missing_paths(text)) == []
    assert list(_missing_modules(text)) == []


def test_a_path_or_module_that_is_not_there_is_found() -> None:
    assert list(_missing_paths("see `controller/no_such.py` and `controller/plans.py`")) == [
        "controller/no_such.py"
    ]
    assert list(_missing_modules("python -m experiments.no_such")) == ["experiments.no_such"]


CONCEPTS = [page for page in PAGES if page.parent.name == "concepts" and page.stem != "glossary"]


@pytest.mark.parametrize("page", CONCEPTS, ids=lambda page: page.stem)
def test_a_concept_is_short_and_shows_something(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= LONGEST_CONCEPT
    assert page.stem == "index" or "](../pictures/" in text or "`coinfer " in text
