"""Several tensors as one input: whole numbers that float32 does not hold are refused."""

import numpy as np
import pytest

from artefacts import UsageError
from models.codecs.tensors import NamedTensor
from models.facts.preprocessing import TensorInput

TWO = TensorInput((NamedTensor("image", "FP32", (2,)), NamedTensor("kind", "INT64", (1,))))


@pytest.mark.parametrize("value", [2**24 - 1, -(2**24) + 1, 0])
def test_whole_numbers_that_float32_holds_are_laid_end_to_end(value):
    made = TWO.pack([np.float32([0.5, 1.5]), np.int64([value])])
    assert made.tolist() == [0.5, 1.5, float(value)]


@pytest.mark.parametrize("value", [2**24, -(2**24), 2**63 - 1, -(2**63)])
def test_others_are_named(value):
    with pytest.raises(UsageError, match=f"tensor 'kind': found {abs(value)}, expected whole"):
        TWO.pack([np.float32([0.5, 1.5]), np.int64([value])])
