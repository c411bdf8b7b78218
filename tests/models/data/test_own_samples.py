"""A user's npz of tensors: what is no number is refused by the name of its array."""

import numpy as np
import pytest

from artefacts import ArtefactError
from models.data.own_samples import read_samples
from models.facts.preprocessing import NamedTensor, TensorInput

pytestmark = pytest.mark.quick
PAIR = TensorInput((NamedTensor("a", "FP32", (3,)), NamedTensor("b", "INT64", (2,))))
GOOD = {"a": np.ones((4, 3)), "b": np.zeros((4, 2), int)}


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([["x"] * 3] * 4), "<U1 (4, 3)"),
        (np.array([["1"] * 3] * 4), "<U1 (4, 3)"),
        (np.array([[b"x"] * 3] * 4), "|S1 (4, 3)"),
    ],
)
def test_texts_are_no_tensor(tmp_path, array, found):
    path = tmp_path / "data.npz"
    np.savez(path, **GOOD | {"a": array})
    with pytest.raises(ArtefactError) as error:
        read_samples(path, PAIR, (5,))
    assert f"field 'a': found {found}, expected FP32 (4, 3)" in str(error.value)
    np.savez(path, **GOOD)
    assert read_samples(path, PAIR, (5,)).x.shape == (4, 5)
