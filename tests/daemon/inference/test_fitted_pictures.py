"""Pictures of any size before a daemon's network: what it sees, and boxes in what was sent."""

import asyncio
import io

import numpy as np
import pytest
from made_networks import BOXES, SIDE, made_model, made_service
from PIL import Image

from controller.daemon.inference.answering import Wanted, outputs_of, short_answer
from controller.daemon.inference.open_inference import InferRequest
from controller.daemon.inference.pictures import JpegFiles, decode_jpeg, inspect_jpeg
from models.executors import OnnxExecutor
from models.facts.picture_fit import PictureFit
from models.facts.preprocessing import PictureInput

HIGH, WIDE = 60, 90


def file_of(height, width, orientation=1, seed=2):
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


def answers(served, samples):
    asked = InferRequest(samples, deadline_s=20.0)
    return asyncio.run(served.answers(asked, served.now_s()))


def row(model, raw):
    """The last exit's row of one raw sample, of the network as it is."""
    last = len(model.spec.exits) - 1
    length = len(model.spec.branches[last])
    return OnnxExecutor(model).run(last, 0, length, model.normalise(raw[None]))[0]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["squash", "crop", "letterbox"])
def test_boxes_are_of_the_picture_that_was_sent(tmp_path, kind, orientation):
    takes = PictureInput(fit=kind)
    model = made_model("detector", tmp_path, pictures=takes)
    data = file_of(HIGH, WIDE, orientation)
    upright = (HIGH, WIDE) if orientation == 1 else (WIDE, HIGH)
    place = PictureFit(kind).placed(upright, (SIDE, SIDE))
    raw = decode_jpeg(inspect_jpeg(data, 10**6), (SIDE, SIDE), fit=takes.fitting)
    seen = BOXES.detections(row(model, raw))
    expected = np.clip(place.to_picture(seen.boxes), 0.0, 1.0)
    kept = (expected[:, 2:] > expected[:, :2]).all(axis=1)
    assert kept.any()
    with made_service(model) as served:
        found = answers(served, JpegFiles((data, data)))
        wanted = [Wanted(name) for name in ("boxes", "scores", "count")]
        boxes, scores, count = outputs_of(wanted, found, served.signature)
        short = short_answer(found[0], served.signature)
        [itself] = answers(served, raw[None])
        own = short_answer(itself, served.signature)
    assert np.asarray(boxes.values)[1] == pytest.approx(expected[kept], abs=1e-5)
    assert np.asarray(scores.values)[1] == pytest.approx(seen.scores[kept], abs=1e-5)
    assert list(count.values) == [kept.sum()] * 2
    sent = np.array([one["box"] for one in short["detections"]])
    assert sent == pytest.approx(expected[kept], abs=1e-5)
    # what is sent as the network takes it is answered in that
    there = np.array([one["box"] for one in own["detections"]])
    assert there == pytest.approx(seen.boxes, abs=1e-5)
    if kind != "squash":
        assert not np.allclose(sent, seen.boxes[kept], atol=1e-2)


@pytest.mark.parametrize("plan", [0, 1, 3])
@pytest.mark.parametrize("channels", ["grey", "bgr"])
def test_a_network_of_other_channels_is_asked_with_files_of_any_size(tmp_path, channels, plan):
    """On the device, at the edge from the raw picture, and begun at the edge."""
    takes = PictureInput((0.4,), (0.2,), channels, "crop")
    model = made_model("detector", tmp_path, pictures=takes)
    assert model.spec.input_shape == (takes.depth, SIDE, SIDE)
    data = file_of(HIGH, WIDE)
    raw = decode_jpeg(inspect_jpeg(data, 10**6), (SIDE, SIDE), fit=takes.fitting)
    assert raw.shape == (SIDE, SIDE, 3)
    with made_service(model, plan) as served:
        assert served.metadata()["inputs"][0]["shape"] == [-1, SIDE, SIDE, 3]
        [found] = answers(served, JpegFiles((data,)))
    assert found.where == ("edge" if plan == 1 else "device")
    assert found.values == pytest.approx(row(model, raw), abs=1e-4)
