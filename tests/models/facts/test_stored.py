from __future__ import annotations

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from artefacts import ArtefactError
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import expected_shapes, load_model, model_digest, save_model
from models.facts.layers import LayerSpec
from models.facts.stored import LEAST_VALUES, packed, rounded, unpacked


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes = 10.0 ** rng.uniform(-6, 3, (96, 1))
    return {
        "rows.weight": (sizes * rng.normal(size=(96, 64))).astype(np.float32),
        "columns.weight": (sizes * rng.normal(size=(96, 64))).astype(np.float32).T.copy(),
        "conv.weight": rng.normal(size=(32, 16, 3, 3)).astype(np.float32),
        "few.weight": rng.normal(size=(4, 4)).astype(np.float32),
        "long.bias": rng.normal(size=LEAST_VALUES).astype(np.float32),
    }


def test_matrices_take_a_quarter_and_come_back_within_half_a_level(state):
    stored = packed(state)
    for name in ("rows.weight", "columns.weight", "conv.weight"):
        assert stored[name].dtype == np.int8
        back = rounded(state)[name]
        assert back.dtype == np.float32
        assert back.shape == state[name].shape
        scale = stored[name + ".scale"]
        assert (np.abs(back - state[name]) <= 0.5001 * scale).all()
        assert stored[name].nbytes + scale.nbytes < 0.3 * state[name].nbytes
    assert stored["few.weight"] is state["few.weight"]
    assert stored["long.bias"] is state["long.bias"]
    # whose sizes differ by column has scales by column
    assert stored["rows.weight.scale"].shape == (96, 1)
    assert stored["columns.weight.scale"].shape == (1, 96)


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_twice_is_rounding_once(axis):
    rng = np.random.default_rng(axis)
    for _ in range(50):
        size = 10.0 ** rng.uniform(-45, 37, (64, 64)[axis])
        one = rng.normal(size=(64, 64)) * np.expand_dims(size, 1 - axis) / 4
        one = one.astype(np.float32)
        one[3], one[:, 5] = 0.0, 0.0
        first = rounded({"w": one})
        assert np.array_equal(rounded(first)["w"], first["w"])
        stored = packed(first)
        assert np.array_equal(stored["w"] * stored["w.scale"], first["w"])


def test_what_is_named_or_cannot_be_rounded_stays(state):
    assert packed(state, ["rows.weight"])["rows.weight"].dtype == np.float32
    endless = {"w": np.full((64, 64), np.inf, dtype=np.float32)}
    assert packed(endless)["w"].dtype == np.float32
    both = {"w": state["rows.weight"], "w.scale": np.ones(3, np.float32)}
    assert packed(both)["w"].dtype == np.float32


@pytest.fixture
def wide_spec() -> BranchySpec:
    trunk = (LayerSpec("flat", "flatten"), LayerSpec("fc1", "fc", channels=64),
             LayerSpec("relu1", "relu"), LayerSpec("fc2", "fc", channels=10))  # fmt: skip
    head = (LayerSpec("exit1.fc", "fc", channels=10),)
    return BranchySpec("wide", (3, 8, 8), 10, trunk, (ExitSpec(1, head), ExitSpec(4)))


@pytest.fixture
def small_folder(wide_spec, tiny_model, tmp_path):
    rng = np.random.default_rng(5)
    shapes = expected_shapes(wide_spec)
    state = rounded({n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()})
    digest = model_digest(wide_spec, state)
    card = msgspec.structs.replace(tiny_model.card, name="wide", network=wide_spec, digest=digest)
    save_model(tmp_path / "float32", state, card)
    save_model(tmp_path / "int8", state, card, int8=True)
    return tmp_path / "int8"


def test_a_model_of_int8_is_the_same_model(small_folder):
    plain, small = load_model(small_folder.parent / "float32"), load_model(small_folder)
    assert small.digest == plain.digest
    for name, values in plain.state.items():
        assert small.state[name].dtype == np.float32
        assert np.array_equal(small.state[name], values)
    sizes = [(m.folder / "weights.safetensors").stat().st_size for m in (plain, small)]
    assert sizes[1] < 0.45 * sizes[0]  # the other layers are too small to be stored so


def _without_scale(tensors):
    del tensors["fc1.weight.scale"]


def _of_other_shape(tensors):
    tensors["fc1.weight.scale"] = np.ones(64, np.float32)


def _half_scale(tensors):
    tensors["fc1.weight.scale"] = tensors["fc1.weight.scale"].astype(np.float16)


def _endless_scale(tensors):
    tensors["fc1.weight.scale"][0] = np.nan


def _wrong_levels(tensors):
    tensors["fc1.weight"] = tensors["fc1.weight"][:8]


def _int8_bias(tensors):
    tensors["fc1.bias"] = tensors["fc1.bias"].astype(np.int8)


def _stray_scale(tensors):
    tensors["fc2.weight.scale"] = np.ones((10, 1), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_scale, "fc1.weight.scale': found nothing"),
        (_of_other_shape, r"fc1.weight.scale': found float32 \(64,\), expected finite float32 "
                          r"\(1, 192\) or \(64, 1\)"),
        (_half_scale, "fc1.weight.scale': found float16"),
        (_endless_scale, "fc1.weight.scale': found float32"),
        (_wrong_levels, r"found int8 \(8, 192\), expected int8 or float32 \(64, 192\)"),
        (_int8_bias, r"fc1.bias': found int8 \(64,\), expected float32 \(64,\)"),
        (_stray_scale, "fc2.weight.scale': found a tensor"),
    ],
)  # fmt: skip
def test_levels_and_scales_that_do_not_fit_are_refused(small_folder, change, message):
    path = small_folder / "weights.safetensors"
    tensors = {n: t.copy() for n, t in safetensors.numpy.load_file(path).items()}
    change(tensors)
    path.write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(ArtefactError, match=message):
        load_model(small_folder)


def test_other_levels_are_another_model(small_folder):
    path = small_folder / "weights.safetensors"
    tensors = {n: t.copy() for n, t in safetensors.numpy.load_file(path).items()}
    tensors["fc1.weight"][0, 0] ^= 1
    path.write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(ArtefactError, match="'digest': found"):
        load_model(small_folder)


def test_nothing_of_int8_is_nothing_to_do(state, tmp_path):
    shapes = {name: values.shape for name, values in state.items()}
    assert unpacked(tmp_path, state, shapes) == state
