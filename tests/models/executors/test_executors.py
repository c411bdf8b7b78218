"""The contract of every executor, and the pace of a slower machine."""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor, PacedExecutor, make_executor
from models.facts.answers import CLASSES, read_answer
from models.facts.cards import load_model, model_digest, save_model
from models.networks.torch_executor import any_executor

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["onnx", "torch", "paced"])
def executor(request, stream):
    if request.param != "paced":
        return any_executor(request.param, stream.model)
    return PacedExecutor(make_executor("onnx", stream.model), stream.profiles["edge"])


@pytest.fixture(scope="module")
def camera():
    """The network that comes with the ranges that int8 needs."""
    return load_model("mobilenetv2")


@pytest.fixture(scope="module")
def small(camera):
    return make_executor("onnx-int8", camera)


@pytest.fixture(scope="module")
def photos(camera):
    return camera.normalise(generated_pictures(8, np.random.default_rng(2), side=144))


@pytest.fixture(scope="module")
def picture(stream):
    raw = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    return stream.model.normalise(raw)


def test_every_cut_gives_what_the_whole_branch_gives(executor, stream, picture):
    reference = any_executor("torch", stream.model)
    for branch, layers in enumerate(stream.spec.branches):
        whole = reference.run(branch, 0, len(layers), picture)
        for cut in range(0, len(layers) + 1, 3):
            x = executor.run(branch, 0, cut, picture) if cut else picture
            y = executor.run(branch, cut, len(layers), x)
            assert y == pytest.approx(whole, abs=1e-4, rel=1e-4)


def apart(x, y):
    """Mean difference as a share of what there is."""
    return float(np.abs(x - y).mean() / np.abs(y).mean())


@pytest.mark.parametrize("branch", [0, 4])
def test_int8_answers_as_float32_does(small, camera, photos, branch):
    whole = len(camera.spec.branches[branch])
    exact = make_executor("onnx", camera).run(branch, 0, whole, photos)
    found = small.run(branch, 0, whole, photos)
    assert found.dtype == np.float32
    assert found.shape == exact.shape == (8, 10)
    assert 0.01 < apart(found, exact) < 0.4
    # made-up pictures are no photographs, and some answers hang on little
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).sum() >= 6


def test_int8_cut_gives_what_int8_whole_gives(small, camera, photos):
    whole = len(camera.spec.branches[0])
    expected = small.run(0, 0, whole, photos)
    for cut in range(1, whole):
        there = small.run(0, 0, cut, photos)
        assert there.shape == (8, *camera.spec.shapes[0][cut])
        assert apart(small.run(0, cut, whole, there), expected) < 0.02, cut


def test_int8_needs_its_ranges(stream):
    with pytest.raises(ArtefactError, match="activations.json: found no such file"):
        make_executor("onnx-int8", stream.model)


def test_int8_needs_no_torch(tmp_path):
    """A fresh interpreter, as on the device: quantises a whole branch and runs it."""
    code = (
        "import sys, numpy as np\n"
        "from models.executors import make_executor\n"
        "from models.facts.cards import load_model\n"
        "model = load_model('mobilenetv2')\n"
        "executor = make_executor('onnx-int8', model)\n"
        "x = model.normalise(np.full((1, 144, 144, 3), 90, np.uint8))\n"
        "logits = executor.run(0, 0, len(model.spec.branches[0]), x)\n"
        "assert logits.shape == (1, 10) and np.isfinite(logits).all() and logits.std() > 0\n"
        "sys.exit('torch imported' if 'torch' in sys.modules else 0)"
    )
    # a cache of its own: the graph is to be made there, not read
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "COINFER_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.name[:5] for p in tmp_path.rglob("*.onnx")] == ["int8-"]


def test_a_wrong_shape_is_named(executor):
    check_shapes_named(executor)


def test_a_wrong_shape_is_named_by_int8_too(small):
    check_shapes_named(small)


def check_shapes_named(executor):
    with pytest.raises(UsageError, match="found a batch of shape"):
        executor.run(0, 0, 3, np.zeros((1, 3, 8, 8), dtype=np.float32))
    with pytest.raises(UsageError, match="found exit 10, expected 1 to 5"):
        executor.run(9, 0, 3, np.zeros((1, 3, 32, 32), dtype=np.float32))


def test_an_unknown_executor_is_named(stream):
    with pytest.raises(UsageError, match="found 'abacus', expected onnx, onnx-int8 or torch"):
        any_executor("abacus", stream.model)


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
    found = read_answer(CLASSES, np.array([[0.0, np.log(3.0)]], dtype=np.float32))
    label, sure = found.label, found.confidence
    assert (label, sure) == (1, pytest.approx(0.75))


def test_at_seams_intervals_are_run_piece_by_piece_and_give_the_same(stream, picture):
    spec = stream.spec
    plain = OnnxExecutor(stream.model)
    pieces = OnnxExecutor(stream.model, seams={4, 8, 12, 99})
    x = picture
    for branch, layers in enumerate(spec.branches):
        np.testing.assert_allclose(
            pieces.run(branch, 0, len(layers), x), plain.run(branch, 0, len(layers), x),
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip
    kept = len(pieces._sessions)
    pieces.run(4, 0, 12, x)
    pieces.run(3, 4, 12, pieces.run(2, 0, 4, x))
    assert len(pieces._sessions) == kept, "the trunk's pieces are every branch's"


def test_parameters_let_go_are_read_again_where_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    model = load_model("alexnet")
    executor = OnnxExecutor(model)
    x = np.zeros((1, 3, 32, 32), np.float32)
    before = executor.run(0, 0, 12, x)
    model.release()
    assert not model.state
    assert np.array_equal(executor.run(0, 0, 12, x), before)
    assert executor.run(4, 0, 22, x).shape == (1, 10)


def test_parameters_of_another_model_are_not_taken_for_those_that_were_let_go(
    tmp_path, monkeypatch
):
    """A folder that is written anew while a daemon runs; its graphs would be kept for ever."""
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path / "cache"))
    known = load_model("alexnet")
    save_model(tmp_path / "net", known.state, known.card)
    model = load_model(tmp_path / "net")
    executor = OnnxExecutor(model)
    model.release()
    state = {name: 2.0 * values for name, values in known.state.items()}
    card = msgspec.structs.replace(known.card, digest=model_digest(known.spec, state))
    save_model(tmp_path / "net", state, card)
    with pytest.raises(ArtefactError, match="field 'digest'"):
        executor.run(0, 0, 12, np.zeros((1, 3, 32, 32), np.float32))
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_of_many_intervals_the_one_used_longest_ago_goes(stream):
    bounded = OnnxExecutor(stream.model, most=2)
    x = stream.model.normalise(generated_pictures(1, np.random.default_rng(0)))
    free, last = OnnxExecutor(stream.model), len(stream.spec.branches[0])
    for stop in (3, 5, 3, last, 5):
        assert np.array_equal(bounded.run(0, 0, stop, x), free.run(0, 0, stop, x))
        assert len(bounded._sessions) <= 2


def test_of_much_weight_the_interval_used_longest_ago_goes(stream):
    spec, last = stream.spec, len(stream.spec.branches[0])
    parts = [(0, 0, last), (0, 3, last), (0, 0, 3)]
    sizes = [spec.interval_bytes(*part) for part in parts]
    assert (
        sizes[0]
        == sum(sizes[1:])
        == 4
        * sum(
            int(np.prod(stream.model.parameters[f"{layer.name}.{key}"].shape))
            for layer, shape in zip(spec.branches[0], spec.shapes[0], strict=False)
            for key in layer.parameter_shapes(shape)
        )
    )
    bounded, free = OnnxExecutor(stream.model, most_bytes=sizes[0]), OnnxExecutor(stream.model)
    x = stream.model.normalise(generated_pictures(1, np.random.default_rng(0)))
    for stop in (last, 3, last):
        assert np.array_equal(bounded.run(0, 0, stop, x), free.run(0, 0, stop, x))
        assert len(bounded._sessions) == 1
    after = free.run(0, 0, 3, x)
    bounded.run(0, 0, 3, x)
    bounded.run(0, 3, last, after)
    assert len(bounded._sessions) == 2, "both together have no more"
