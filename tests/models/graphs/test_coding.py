"""What crosses, in bytes: of a raw picture whatever the network makes of it."""

import numpy as np
import pytest

from models.codecs import codec_named
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec
from models.facts.preprocessing import PictureInput
from models.graphs.coding import crossing_bytes


def spec_of(shape):
    trunk = (LayerSpec("flat", "flatten"), LayerSpec("fc", "fc", channels=3))
    return BranchySpec("net", shape, 3, trunk, (ExitSpec(2),))


@pytest.mark.parametrize("takes", [PictureInput(), PictureInput(channels="grey")])
def test_a_raw_picture_has_three_channels_on_the_wire(takes):
    """A grey network's input has one, and the picture that is sent up is still in colours."""
    spec = spec_of((takes.depth, 8, 6))
    raw = np.zeros(takes.raw_shape(spec.input_shape), dtype=np.uint8)
    codec = codec_named("uint8")
    assert crossing_bytes(codec, spec, 0, 0) == len(codec.encode(raw).data) == 8 * 6 * 3
    assert crossing_bytes(codec_named("jpeg75"), spec, 0, 0) is None
    # the tensor itself is as wide as the network's input
    assert crossing_bytes(codec_named("float32"), spec, 0, 0) == 4 * takes.depth * 8 * 6
