"""A codec of tensors whose bytes depend on what they hold: measured, and packed by nobody."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from models.codecs import example_names, find_codec, registry
from models.codecs.interface import NOTHING_SHARED, Codec, Encoded, single
from models.data.datasets import Pictures
from models.data.pictures import generated_pictures
from models.networks.judging import judge


class Deflated(Codec):
    """Halves, deflated."""

    name = "deflated"

    def size(self, shape):
        """None: it depends on the tensor."""

    def encode(self, array, shared=NOTHING_SHARED):
        return Encoded(zlib.compress(array.astype(np.float16).tobytes()), {})

    def decode(self, meta, data, shape, shared=NOTHING_SHARED):
        return np.frombuffer(zlib.decompress(data), np.float16).astype(np.float32).reshape(shape)


@pytest.fixture
def deflated(monkeypatch):
    codec = Deflated()
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, single(codec)))
    find_codec.cache_clear()
    yield codec
    find_codec.cache_clear()


def test_what_has_no_bound_is_not_packed(deflated):
    assert find_codec("deflated") is deflated
    assert find_codec("deflated+zstd") is None
    assert "deflated" in example_names()
    assert "deflated+zstd" not in example_names()
    assert registry.known_codecs().endswith(" or deflated")


def test_its_bytes_are_recorded_wherever_it_crosses(deflated, tiny_model):
    rng = np.random.default_rng(2)
    pictures = Pictures(generated_pictures(6, rng, side=8), rng.integers(0, 10, 6).astype(np.uint8))
    outcomes = judge(tiny_model, pictures, "made up", codecs=("deflated",))
    cuts = [(i, k) for i, branch in enumerate(tiny_model.spec.branches) for k in range(len(branch))]
    for branch, cut in cuts:
        assert outcomes.mean_bytes(branch, "deflated", cut) > 0
    at_input = [len(deflated.encode(x).data) for x in tiny_model.normalise(pictures.x)]
    assert outcomes.mean_bytes(0, "deflated", 0) == pytest.approx(np.mean(at_input), rel=1e-3)
