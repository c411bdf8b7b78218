"""Made-up samples: of the shape and type that a network takes, and as dear as real ones."""

import numpy as np
import pytest

from models.facts.made_up import made_up_input, made_up_sample
from models.facts.preprocessing import (
    NamedTensor,
    PictureInput,
    SoundInput,
    TensorInput,
    TokenInput,
    raw_type,
)

pytestmark = pytest.mark.quick

KINDS = [
    (PictureInput((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), (3, 8, 8)),
    (TokenInput(50, padding=3), (12,)),
    (TokenInput(2, padding=1), (12,)),
    (SoundInput(8000), (500,)),
    (TensorInput((NamedTensor("x", "FP32", (2, 3)),)), (2, 3)),
    (TensorInput((NamedTensor("x", "FP32", (2,)), NamedTensor("mask", "BOOL", (3,)))), (5,)),
]


@pytest.mark.parametrize(("takes", "shape"), KINDS)
def test_a_made_up_sample_is_one_that_is_taken(takes, shape):
    takes.check(shape)
    sample = made_up_sample(takes, shape)
    assert (sample.shape, sample.dtype) == (takes.raw_shape(shape), raw_type(takes))
    given = made_up_input(takes, shape)
    assert given.shape == (1, *shape)
    assert given.dtype == np.float32
    assert np.isfinite(given).all()


def test_no_token_is_padding_and_no_mask_is_empty():
    assert (made_up_sample(TokenInput(50, padding=3), (12,)) != 3).all()
    assert made_up_sample(KINDS[-1][0], (5,)).tolist() == [0, 0, 1, 1, 1]
    assert len(np.unique(made_up_sample(SoundInput(8000), (500,)))) > 100
