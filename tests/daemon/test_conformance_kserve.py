"""KServe's own client library, unchanged, against a running daemon: REST and gRPC."""

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

if importlib.util.find_spec("kserve") is None:
    pytest.skip(
        "kserve is not installed (pip install --no-deps -r tests/daemon/kserve.txt)",
        allow_module_level=True,
    )

REFUSALS = {
    "too many classes": (("400", "StatusCode.INVALID_ARGUMENT"), "found 3, expected 1"),
    "unknown parameter": (("400", "StatusCode.INVALID_ARGUMENT"), "found 'dedline_ms', expected"),
    "too soon": (("400", "StatusCode.INVALID_ARGUMENT"), "expected at least 0.003 s"),
    "other datatype": (("400", "StatusCode.INVALID_ARGUMENT"), "found FP32, expected UINT8 (N, H"),
    "other model": (("404", "StatusCode.NOT_FOUND"), "expected 'alexnet' version '1'"),
}


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(running_module, pictures, tmp_path_factory):
    """What the library got, over either way."""
    file = tmp_path_factory.mktemp("kserve") / "pictures.npy"
    np.save(file, pictures)
    with running_module("[grpc]\nport = 0\n") as daemon:
        script = Path(__file__).with_name("kserve_client.py")
        done = subprocess.run(
            [sys.executable, script, daemon.address, daemon.grpc, file],
            capture_output=True, text=True, timeout=120, check=False, env=os.environ,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["rest", "grpc"])
def over(request, found):
    return found[request.param] | {"way": request.param}


def test_health(over):
    assert (over["live"], over["ready"], over["model ready"]) == (True, True, True)
    assert over["other ready"] in (False, "StatusCode.NOT_FOUND")


@pytest.mark.parametrize("form", ["binary", "typed", "without id"])
def test_answers_are_those_of_the_network(over, form, pictures, stream):
    answer = over[form]
    # over REST the library drops the version that it is given
    assert answer["model"] == ["alexnet", None if over["way"] == "rest" else "1"]
    assert answer["types"] == {"label": "INT64", "confidence": "FP32", "exit": "INT32"}
    if form == "without id":
        assert answer["id"] in (None, "") or uuid.UUID(answer["id"]), "over REST it makes one up"
    else:
        assert answer["id"] == {"binary": "r1", "typed": "r2"}[form]
    executor = OnnxExecutor(stream.model)
    for k, exit_ in enumerate(answer["values"]["exit"]):
        stop = len(stream.spec.branches[exit_ - 1])
        normal = stream.model.normalise(pictures[k : k + 1])
        label = int(executor.run(exit_ - 1, 0, stop, normal).argmax())
        assert answer["values"]["label"][k] == label
    assert all(0.0 < c <= 1.0 for c in answer["values"]["confidence"])


def test_outputs_and_a_classification(over):
    assert list(over["outputs"]["values"]) == ["exit"]
    named = over["classification"]
    assert named["types"] == {"confidence": "BYTES"}
    for one, label in zip(
        named["values"]["confidence"], over["binary"]["values"]["label"], strict=True
    ):
        assert int(one.split(":")[1]) == label


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_reach_the_client_with_their_reason(over, name):
    codes, said = REFUSALS[name]
    code, why = over[name]
    assert code in codes
    assert said in why
