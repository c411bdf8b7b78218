"""Every command that README and docs show is one that the application takes."""

import functools
import itertools
import os
import re
from functools import cache

import pytest
from shown_commands import PLACEHOLDER, READERS_OWN, found_command
from typer.exceptions import TyperException

from coinfer.documentation.shown import ROOT, blocks, commands, files, pages
from experiments.aliases import ALIASES

FOUND = [
    command
    for page in pages()
    if page.name != "commands.md"  # made of the application itself
    for command in commands(page)
]
OURS = sorted({c for c in FOUND if c.words[0].endswith("coinfer")}, key=str)
MODULES = sorted({c for c in FOUND if "-m" in c.words[1:2]}, key=str)
TARGETS = sorted({c for c in FOUND if c.words[0] == "make"}, key=str)


def options_of(command):
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("shown", OURS, ids=str)
def test_a_command_of_ours_has_the_options_that_a_page_shows(shown):
    command, path, rest = found_command(shown.words[1:])
    own = itertools.takewhile(lambda word: word != "--", rest)  # after it stands another command
    given = [word.partition("=")[0] for word in own if re.match(r"^--?[a-z]", word)]
    if command is None or hasattr(command, "commands"):
        assert given in ([], ["--help"], ["--version"])
        return
    for option in given:
        assert option in options_of(command), f"{path} has no option {option}"
    if shown.whole and not any(word.startswith("[") for word in rest):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            try:
                command.make_context(path, list(rest), resilient_parsing=True)
            except TyperException as error:
                pytest.fail(f"{path}: {error}")


@pytest.fixture(scope="module")
def help_of(training_server, tmp_path_factory):
    """`help_of(module)`: what it says of its options, asked once."""

    @cache
    def asked(module):
        done = training_server.run(
            module, "--help", cwd=ROOT, folder=tmp_path_factory.mktemp("streams")
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return asked


@pytest.mark.system
@pytest.mark.parametrize("shown", MODULES, ids=str)
def test_a_module_takes_the_options_that_a_page_shows(help_of, shown):
    module, rest = shown.words[2], shown.words[3:]
    if not module.startswith(("experiments.", "coinfer.")):
        return  # of Python's own
    assert module.removeprefix("experiments.") not in ALIASES, "an earlier name"
    for option in rest:
        if option.startswith("--"):
            assert re.search(rf"(?<!\S)\[?{option}\b", help_of(module)), f"{module}: {option}"


@pytest.mark.parametrize("shown", TARGETS, ids=str)
def test_make_has_the_target(shown):
    target = shown.words[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


SECONDS = {
    "plan", "map", "traces list", "traces info", "traces convert", "traces generate",
    "traces plot", "certs init", "certs edge", "certs device", "certs token",
}  # fmt: skip
"""Commands that take seconds, whatever their options."""


def made_by(words):
    """The file or folder that a command writes."""
    return {after for word, after in itertools.pairwise(words) if word in ("--out", "--dir")}


def runnable(page):
    """Commands of a page that take seconds and need nothing that longer ones make."""
    absent = set()
    for shown in commands(page):
        if not shown.whole or shown.words[0] != "coinfer":
            continue
        _, path, rest = found_command(shown.words[1:])
        own = not any(PLACEHOLDER.match(w) or w.startswith(("/", "[")) for w in rest)
        lacking = any(w == made or w.startswith(f"{made}/") for w in rest for made in absent)
        if path.removeprefix("coinfer ") in SECONDS and own and not lacking:
            yield shown
        else:
            absent |= made_by(rest)


@pytest.fixture
def coinfer(forked, tmp_path):
    """Runs a command in the test's folder."""
    env = os.environ | {"COINFER_DATA": str(tmp_path / "none")}
    return functools.partial(forked, "coinfer.cli.main", cwd=tmp_path, env=env)


RUN = {page: found for page in pages() if (found := list(runnable(page)))}


@pytest.mark.system
@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_takes_seconds_runs_as_it_is_typed(coinfer, page, tmp_path):
    """In a folder of its own, in the order of the page."""
    said = {word for c in RUN[page] for word in c.words}
    for name, make in READERS_OWN.items():
        if name in said:
            make(coinfer, tmp_path / name)
    for name, body in files(page).items():
        (tmp_path / name).write_text(body)
    for shown in RUN[page]:
        done = coinfer(*shown.words[1:])
        refused = done.stderr.removeprefix("coinfer: ").partition(" (")[0]
        if done.returncode == 2 and refused in " ".join(page.read_text().split()):
            continue  # the page shows what is refused, in the same words
        assert done.returncode == 0, f"{shown}: {done.stderr}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_of_python_are_python(page):
    for language, block in blocks(page.read_text()):
        if language == "python":
            compile(block, str(page), "exec")
