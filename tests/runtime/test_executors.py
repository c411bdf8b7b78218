"""The contract of every executor, and the pace of a slower machine."""

import numpy as np
import pytest

from artefacts import UsageError
from controller.runtime.executors import PacedExecutor, make_executor, softmax_answer


@pytest.fixture(scope="module", params=["onnx", "torch", "paced"])
def executor(request, stream):
    if request.param != "paced":
        return make_executor(request.param, stream.model)
    return PacedExecutor(make_executor("onnx", stream.model), stream.edge)


@pytest.fixture(scope="module")
def picture(stream):
    raw = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    return stream.model.normalise(raw)


def test_every_cut_gives_what_the_whole_branch_gives(executor, stream, picture):
    reference = make_executor("torch", stream.model)
    for branch, layers in enumerate(stream.spec.branches):
        whole = reference.run(branch, 0, len(layers), picture)
        for cut in range(0, len(layers) + 1, 3):
            x = executor.run(branch, 0, cut, picture) if cut else picture
            y = executor.run(branch, cut, len(layers), x)
            assert y == pytest.approx(whole, abs=1e-4, rel=1e-4)


def test_a_wrong_shape_is_named(executor):
    with pytest.raises(UsageError, match="found a batch of shape"):
        executor.run(0, 0, 3, np.zeros((1, 3, 8, 8), dtype=np.float32))
    with pytest.raises(UsageError, match="found exit 10, expected 1 to 5"):
        executor.run(9, 0, 3, np.zeros((1, 3, 32, 32), dtype=np.float32))


def test_an_unknown_executor_is_named(stream):
    with pytest.raises(UsageError, match="found 'abacus', expected onnx, onnx-int8 or torch"):
        make_executor("abacus", stream.model)


class Instant:
    """Computes in no time of a clock that only sleeping moves."""

    now = 0.0
    slept = 0.0

    def run(self, branch, start, stop, x):
        return x

    def clock(self):
        Instant.now += 1e-6
        return Instant.now

    def sleep(self, seconds):
        Instant.now += seconds
        Instant.slept += seconds


def test_the_pace_is_the_profiles(stream):
    fake = Instant()
    paced = PacedExecutor(fake, stream.device, fake.clock, fake.sleep)
    before = fake.clock()
    paced.run(4, 0, 22, np.zeros(1, dtype=np.float32))
    expected = stream.device.interval_s(4, 0, 22)
    assert fake.clock() - before == pytest.approx(expected, abs=1e-4)
    assert paced.overruns == 0


def test_softmax_answers():
    label, sure = softmax_answer(np.array([[0.0, np.log(3.0)]], dtype=np.float32))
    assert (label, sure) == (1, pytest.approx(0.75))
