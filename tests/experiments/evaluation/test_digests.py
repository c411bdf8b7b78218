"""What makes a kept result stale: what code does, not how it is written or where it lies."""

import shutil

import pytest

from experiments.evaluation import digests
from experiments.evaluation.digests import code_digest, syntax_digest

BASE = b"""
from traces.trace import BandwidthTrace
import numpy as np

def mean(x):
    return np.mean(x)
"""
SAME = {
    "a comment": BASE.replace(b"import numpy", b"# numbers\nimport numpy"),
    "a docstring": BASE.replace(b"(x):\n", b'(x):\n    """The mean."""\n'),
    "layout": BASE.replace(b"np.mean(x)", b"np.mean(\n        x,\n    )"),
}
OTHER = {
    "a number": BASE.replace(b"np.mean(x)", b"np.mean(x) + 1"),
    "another name of ours": BASE.replace(b"BandwidthTrace", b"TraceSet"),
    "another module of ours": BASE.replace(b"traces.trace", b"traces.library"),
    "another package": BASE.replace(b"import numpy", b"import torch"),
    "a text that is used": BASE.replace(b"np.mean(x)", b"'mean'"),
    "a function's name": BASE.replace(b"def mean", b"def middle"),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_the_same_has_one_digest(what):
    assert SAME[what] != BASE
    assert syntax_digest(SAME[what]) == syntax_digest(BASE)


@pytest.mark.parametrize("what", OTHER)
def test_what_does_something_else_has_another(what):
    assert syntax_digest(OTHER[what]) != syntax_digest(BASE)


def test_a_function_of_a_docstring_alone_is_still_one():
    assert syntax_digest(b"class A:\n    'text'\n") != syntax_digest(b"class B:\n    'text'\n")


def test_a_checkout_s_place_and_a_moved_file_change_nothing(tmp_path, monkeypatch):
    for name in ("artefacts", "controller", "envs", "models", "traces", "experiments"):
        shutil.copytree(
            digests.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("shipped", "*.npz")
        )
    here = code_digest.__wrapped__()
    monkeypatch.setattr(digests, "ROOT", tmp_path)
    assert code_digest.__wrapped__() == here
    (tmp_path / "traces" / "trace.py").rename(tmp_path / "traces" / "bandwidth.py")
    for file in tmp_path.rglob("*.py"):
        file.write_bytes(
            file.read_bytes().replace(b"from traces.trace ", b"from traces.bandwidth ")
        )
    assert code_digest.__wrapped__() == here
    with (tmp_path / "traces" / "bandwidth.py").open("a") as stream:
        stream.write("\nMORE = 1\n")
    digests._own_digest.cache_clear()
    assert code_digest.__wrapped__() != here


def test_a_function_of_the_same_name_from_elsewhere_is_another():
    one = b"from controller.planners.robust import RobustPlanner\n"
    other = b"from controller.planners.bandit import RobustPlanner\n"
    assert syntax_digest(one) != syntax_digest(other)
