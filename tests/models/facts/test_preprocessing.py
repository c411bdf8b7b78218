"""What a picture becomes for a network, held against the arithmetic that torchvision has."""

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from artefacts import UsageError
from models.facts.picture_fit import SQUASH, PictureFit
from models.facts.preprocessing import PictureInput, luma, signature

PICTURES = np.random.default_rng(4).integers(0, 256, (3, 5, 7, 3)).astype(np.uint8)
MEAN, STD = (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)


def normalised(x, mean, std):
    """`ToTensor` and `Normalize` of pictures (N, H, W, C) uint8."""
    x = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean, std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
    return x.sub(mean).div(std).numpy()


def test_rgb_is_what_torchvision_gives():
    found = PictureInput(MEAN, STD).apply(PICTURES)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, normalised(PICTURES, MEAN, STD))


def test_bgr_has_blue_first_and_its_numbers_too():
    found = PictureInput(MEAN, STD, "bgr").apply(PICTURES)
    assert np.array_equal(found, normalised(PICTURES[..., ::-1], MEAN, STD))


def test_caffe_s_pixels_less_its_means():
    """0 to 255, blue first, less a mean of each channel: mean / 255, and 1 / 255."""
    means = np.array([103.94, 116.78, 123.68], dtype=np.float32)
    takes = PictureInput(tuple(float(m) / 255 for m in means), (1 / 255,), "bgr")
    expected = PICTURES[..., ::-1].astype(np.float32) - means
    assert takes.apply(PICTURES) == pytest.approx(expected.transpose(0, 3, 1, 2), abs=1e-4)


def test_grey_is_pillow_s_l_in_one_channel():
    grey = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in PICTURES])[..., None]
    found = PictureInput((0.1307,), (0.3081,), "grey").apply(PICTURES)
    assert found.shape == (3, 1, 5, 7)
    assert np.array_equal(found, normalised(grey, (0.1307,), (0.3081,)))


def test_luma_is_pillow_s_for_every_kind_of_colour():
    rng = np.random.default_rng(0)
    colours = np.concatenate(
        [
            rng.integers(0, 256, (200, 200, 3)),
            np.repeat(np.arange(256)[:, None, None], 200, 1)[:200].repeat(3, 2),
        ]
    ).astype(np.uint8)
    assert np.array_equal(luma(colours), np.asarray(Image.fromarray(colours).convert("L")))
    assert np.array_equal(luma(colours[200:]), colours[200:, :, 0])


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_one_number_counts_for_all_channels(channels):
    one, three = PictureInput((0.5,), (0.25,), channels), PictureInput((0.5,) * 3, (0.25,) * 3)
    expected = three.apply(PICTURES if channels == "rgb" else PICTURES[..., ::-1])
    assert np.array_equal(one.apply(PICTURES), expected)
    one.check((3, 5, 7))


def test_three_equal_numbers_are_one_of_grey():
    plain = PictureInput(channels="grey")
    plain.check((1, 5, 7))
    assert np.array_equal(plain.apply(PICTURES)[:, 0], luma(PICTURES) / np.float32(255.0))


@pytest.mark.parametrize(
    ("takes", "shape", "said"),
    [
        (PictureInput(), (1, 5, 7), r"found shape \(1, 5, 7\), expected \(3, height, width\), rgb"),
        (PictureInput(channels="grey"), (3, 5, 7), r"expected \(1, height, width\), grey"),
        (PictureInput(MEAN, channels="grey"), (1, 5, 7), r"mean: found .*, expected one number"),
        (PictureInput(std=(1.0, 2.0)), (3, 5, 7), "std: found .*, expected one number or three"),
        (PictureInput(mean=()), (3, 5, 7), "mean: found .*, expected one number or three"),
        (PictureInput(std=(1.0, 0.0, 1.0)), (3, 5, 7), "std: found .*, expected finite ones"),
        (PictureInput(std=(1e-40,)), (3, 5, 7), "std: found"),
        (PictureInput(mean=(float("nan"),)), (3, 5, 7), "mean: found"),
        (PictureInput(fit="crop", crop_share=1.5), (3, 5, 7), "crop_share: found 1.5"),
        (PictureInput(fit="letterbox", fill=-1), (3, 5, 7), "fill: found -1"),
    ],
)
def test_what_means_nothing_is_refused(takes, shape, said):
    with pytest.raises(UsageError, match=said):
        takes.check(shape)


def test_the_raw_sample_is_a_picture_in_colours_whatever_the_network_takes():
    for takes, depth in ((PictureInput(), 3), (PictureInput(channels="grey"), 1)):
        assert takes.raw_shape((depth, 5, 7)) == (5, 7, 3)
        [tensor] = signature(takes, (depth, 5, 7))
        assert (tensor.name, tensor.datatype, tensor.shape) == ("picture", "UINT8", (5, 7, 3))


def test_cards_from_before_mean_what_they_meant():
    old = b'{"kind": "picture", "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}'
    found = msgspec.json.decode(old, type=PictureInput)
    assert found == PictureInput((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "rgb", "squash")
    assert found.fitting == SQUASH
    new = PictureInput((0.5,), (0.5,), "grey", "letterbox", fill=0)
    assert msgspec.json.decode(msgspec.json.encode(new), type=PictureInput) == new
    assert new.fitting == PictureFit("letterbox", fill=0)


def test_usual_pictures_are_written_as_they_were():
    """A device of an older version refuses keys that it does not know."""
    plain = msgspec.to_builtins(PictureInput(MEAN, STD))
    assert set(plain) == {"kind", "mean", "std"}
    assert msgspec.convert(plain, PictureInput) == PictureInput(MEAN, STD)
    other = PictureInput(MEAN, STD, "bgr", "letterbox", fill=3)
    assert msgspec.convert(msgspec.to_builtins(other), PictureInput) == other
