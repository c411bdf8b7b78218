"""Words that only the authors would understand are in no name and in no sentence.

The glossary (docs/concepts) has the words that are used instead.
"""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IN_NAMES = {
    "lookout", "view", "door", "stranger", "trust", "awareness", "counted", "course", "unit",
    "stop", "adoption", "feed", "told",
}  # fmt: skip
"""Also in the plural. `unit` and `stop` alone are the field's: of measure, of an interval."""
FIELDS = {"unit", "stop", "course"}
IN_SENTENCES = {"lookout", "door", "stranger", "awareness", "courses", "adoption", "feed", "told"}
"""The others are plain words of English in a sentence (bytes are counted, a unit of measure)."""

NAMES_ALLOWED = {
    "feed_data": "asyncio's name",
    "view": "numpy's and memoryview's",
    "sliding_window_view": "numpy's",
    "units": "of measure, in the readers of traces and in options",
    "_units": "of measure",
    "UNITS": "of a hidden layer; systemd's",
    "_UNITS": "of measure, as tc writes them",
    "_EPOCH_UNITS": "of measure",
    "LATENCY_UNITS": "of measure",
    "MEMORY_UNITS": "of measure",
    "_in_units": "of measure",
    "_rates_with_units": "of measure",
    "feed": "of html.parser.HTMLParser",
    "feed_eof": "of aiohttp's StreamReader",
    "with_line_feeds": "the character",
    "strangers": "an earlier key of [limits] that files may have",
}
SENTENCES_ALLOWED = {
    "`strangers`": "an earlier key of [limits] that files may have",
    "limits.strangers": "the same",
    '"strangers"': "the same",
    "line feed": "the character",
    "NEWS_FEED": "Grafana's own setting",
}
OTHER_TEXT = ("*.md", "deploy/*", "Makefile", "pyproject.toml", "examples/*")
HISTORY = "CHANGELOG.md"


def words_of(name: str) -> set[str]:
    """The words of an identifier, lower case, as they stand and without a plural's s."""
    parts = re.split(r"[_\d]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name))
    return {part.lower() for part in parts if part}


def private_names(source: str) -> set[str]:
    """Identifiers of a Python source with a word of `IN_NAMES`, but those allowed."""
    refused = {f"{word}s" for word in IN_NAMES} | (IN_NAMES - FIELDS)
    named = {
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    }
    # a test's name is a sentence
    of_tests = {f"{word}{s}" for word in IN_SENTENCES for s in ("", "s")}
    return {
        name
        for name in named - set(NAMES_ALLOWED)
        if words_of(name) & (of_tests if name.startswith("test_") else refused)
    }


def private_sentences(text: str) -> set[str]:
    """Words of `IN_SENTENCES` that stand in a text, but where they are allowed."""
    for allowed in SENTENCES_ALLOWED:
        text = re.sub(re.escape(allowed), "", text, flags=re.IGNORECASE)
    each = "|".join(sorted(IN_SENTENCES))
    return set(re.findall(rf"\b(?:{each})s?\b", text, re.IGNORECASE))


def sentences(source: str) -> str:
    """Comments and strings of a Python source."""
    return "\n".join(
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.COMMENT, tokenize.STRING)
    )


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("git: found no repository here, expected one that names the files")
    found = [ROOT / name for name in done.stdout.splitlines()]
    return [
        path for path in found if path.is_file() and path not in (Path(__file__), ROOT / HISTORY)
    ]


def test_no_name_is_private():
    found = {str(p.relative_to(ROOT)): private_names(p.read_text()) for p in tracked("*.py")}
    assert len(found) > 400
    assert {path: sorted(names) for path, names in found.items() if names} == {}


def test_no_sentence_is_private():
    texts = {p: sentences(p.read_text()) for p in tracked("*.py")}
    texts |= {p: p.read_text() for p in tracked(*OTHER_TEXT) if p not in texts}
    found = {str(p.relative_to(ROOT)): private_sentences(text) for p, text in texts.items()}
    assert {path: sorted(words) for path, words in found.items() if words} == {}


def test_each_name_that_is_allowed_is_needed():
    used = {
        token.string
        for path in tracked("*.py")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.NAME
    }
    assert set(NAMES_ALLOWED) - used == set()


def test_private_words_are_found():
    source = 'def told_of(views, unit):\n    """A stranger."""\n    return views.stop  # the door\n'
    assert private_names(source) == {"told_of", "views"}
    assert private_sentences(sentences(source)) == {"stranger", "door"}
    assert private_names("class LinkTrust: ...\nhalf_units = 1\ncourse = 2\n") == {
        "LinkTrust", "half_units",
    }  # fmt: skip
    names = "def test_bytes_are_counted(): ...\ndef test_it_is_told(): ..."
    assert private_names(names) == {"test_it_is_told"}
    assert private_sentences("It feeds a line feed; outdoors.") == {"feeds"}
