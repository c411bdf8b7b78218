"""Sentences through two real processes, with the files and scripts of docs/how-to/text.md."""

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from coinfer import Client, DeviceError
from coinfer.documentation.shown import ROOT, files
from controller.daemon.inference.texts import tokeniser_beside
from models.executors import OnnxExecutor
from models.facts.cards import load_model

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
PAGE = ROOT / "docs" / "how-to" / "text.md"
SCRIPTS = dict(re.findall(r"^`(\w+\.py)`:\n```python\n(.*?)^```", PAGE.read_text(), re.M | re.S))
GOOD, BAD = "A film to see twice.", "It drags on and on, and nobody cares."
PATIENT_S = 20.0
"""Of a sentence: a busy machine is no fault."""
ASKED_AGAIN_S = 4.0
"""Of one that is asked again where it fails: an answer that waits for a lost edge takes so long."""


@contextlib.contextmanager
def started(folder, kind, log):
    """A daemon of the page; gives the lines of its ready or port file."""
    there = folder / f"{kind}.ready"
    option = "--port-file" if kind == "edge" else "--ready-file"
    with (folder / log).open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.main", kind, "--config", f"{kind}.toml",
             option, there], cwd=folder, stderr=stream, stdout=stream,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            end = time.monotonic() + 90
            while not there.exists() or not there.read_text():
                assert process.poll() is None, (folder / log).read_text()
                assert time.monotonic() < end, (folder / log).read_text()
                time.sleep(0.05)
            yield there.read_text().split()
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Both daemons of the page on ports of their own; where HTTP and gRPC listen."""
    folder = tmp_path_factory.mktemp("text")
    shown = files(PAGE)
    grpc = importlib.util.find_spec("grpc") is not None
    (folder / "edge.toml").write_text(shown["edge.toml"].replace("7700", "0"))
    with started(folder, "edge", "edge.log") as (port, *_):
        device = shown["device.toml"].replace("7700", port).replace("8700", "0")
        device = device.replace("8701", "0") if grpc else device.partition("[grpc]")[0]
        (folder / "device.toml").write_text(device)
        with started(folder, "device", "device.log") as addresses:
            yield addresses


@pytest.fixture(scope="module")
def expected():
    """{text: class} by every exit of the shipped network, computed here."""
    model = load_model("minilm-sst2")
    tokeniser, length = tokeniser_beside(model.folder, model.preprocessing), 64
    executor, found = OnnxExecutor(model), {}
    for text in (GOOD, BAD):
        ids = np.zeros((1, length), dtype=np.int32)
        pieces = tokeniser.encode(text, None, length=length)
        ids[0, : len(pieces)] = pieces
        x = model.normalise(ids)
        for exit_, branch in enumerate(model.spec.branches):
            row = executor.run(exit_, 0, len(branch), x)[0]
            found[text, exit_ + 1] = model.card.classes[int(row.argmax())]
    return found


def test_every_exit_knows_a_good_film_from_a_bad_one(expected):
    assert {expected[GOOD, exit_] for exit_ in range(1, 7)} == {"positive"}
    assert {expected[BAD, exit_] for exit_ in range(1, 7)} == {"negative"}


def test_the_page_s_client_is_answered_through_device_and_edge(serving, expected):
    where, end = set(), time.monotonic() + 120
    with Client(serving[0]) as client:
        # whether the device ever answers by itself is its controller's choice
        while "edge" not in where and time.monotonic() < end:
            for text in (GOOD, BAD):
                # who is asked for a sure answer of the device gets it at once
                for threshold in (None, 0.6):
                    with contextlib.suppress(DeviceError):  # a busy machine
                        found = client.infer(text, deadline_s=ASKED_AGAIN_S, threshold=threshold)
                        assert found.class_name == expected[text, found.exit]
                        where.add(found.where)
    assert "edge" in where
    done = subprocess.run(
        [sys.executable, "-c", SCRIPTS["ask.py"].replace("http://127.0.0.1:8700", serving[0])
         .replace("5.0", str(PATIENT_S))],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"positive, 0\.\d\d: (device|edge), exit \d\nnegative, 0\.\d\d: (device|edge), exit \d\n",
        done.stdout,
    )


def test_the_page_s_triton_script_is_answered_in_words(serving):
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (extra dev)")
    pytest.importorskip("tritonclient.grpc", reason="tritonclient lacks its gRPC half")
    script = SCRIPTS["triton.py"].replace("5000", str(int(1000 * PATIENT_S)))
    for usual, address in zip(("127.0.0.1:8700", "127.0.0.1:8701"), serving, strict=True):
        script = script.replace(usual, address.split("://")[-1])
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(0\.\d+:0:negative\n){2}", done.stdout)
