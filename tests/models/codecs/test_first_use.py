"""What a codec's first use loads is loaded before the first frame comes."""

import subprocess
import sys

import pytest

from artefacts.processes import child_environment
from controller.device.warming import warm
from controller.scenarios import load_setting
from models.codecs import codec_named
from models.codecs.first_use import codecs_for, use_once

USED = """
import sys
import numpy as np
from models.codecs import codec_named
from models.codecs.examples import example_array, example_shared
from models.codecs.first_use import codecs_for, use_once

use_once(codecs_for("picture"))
before = set(sys.modules)
assert "PIL.WebPImagePlugin" in before
for name in codecs_for("picture"):
    codec = codec_named(name)
    array = example_array(codec, np.random.default_rng(1))
    shared = example_shared(codec, array[None])
    encoded = codec.encode(array, shared)
    codec.decode(encoded.meta, encoded.data, array.shape, shared)
assert set(sys.modules) == before, set(sys.modules) - before
"""


@pytest.mark.slow
@pytest.mark.system
def test_later_uses_load_nothing():
    done = subprocess.run(
        [sys.executable, "-P", "-c", USED], env=child_environment(), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("carried", ["picture", "tokens", "sound"])
def test_codecs_are_those_that_may_carry_a_network_s_tensors_or_samples(carried):
    kinds = {codec_named(name).carries for name in codecs_for(carried)}
    assert kinds == {"tensor", carried}


def test_a_codec_that_fails_is_left_to_who_asks_for_it(monkeypatch):
    def broken(*args):
        raise OSError("no library")

    monkeypatch.setattr(type(codec_named("webp50")), "encode", broken)
    use_once(["webp50", "bottleneck", "int8"])


def test_a_device_uses_the_codecs_of_its_plans_once(monkeypatch, tidy_setting):
    used = []
    monkeypatch.setattr("controller.device.warming.use_once", used.extend)

    class Executor:
        def run(self, *args):
            return args[-1]

        def encode(self, *args):
            return None

    warm(tidy_setting, Executor())
    hops = {hop.codec for plan in tidy_setting.table.plans for hop in plan.hops}
    assert set(used) == hops


@pytest.fixture
def tidy_setting():
    from tidy import tidy

    return load_setting(tidy("lte-mobilenet"))
