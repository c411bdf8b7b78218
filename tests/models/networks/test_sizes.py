"""Sizes are recorded of the pictures that the outcomes are of, by every codec that varies."""

import numpy as np
import pytest

from artefacts import UsageError
from models.codecs import Shared, codec_named
from models.data.datasets import Pictures
from models.data.pictures import generated_pictures
from models.executors import make_executor
from models.facts.cards import load_model
from models.facts.outcomes import Outcomes
from models.networks import sizes as recording
from models.networks.sizes import record_sizes


@pytest.fixture(scope="module")
def camera():
    return load_model("mobilenetv2")


def made_pictures(model, count):
    _, height, width = model.spec.input_shape
    made = generated_pictures(count, np.random.default_rng(0), max(height, width))
    return Pictures(made[:, :height, :width], np.zeros(count, dtype=np.uint8))


def outcomes_of(model, keys, samples):
    exits = len(model.spec.exits)
    right = np.ones((exits, samples), dtype=bool)
    return Outcomes(
        model.digest, "made", tuple((i, "float32", 0) for i in range(exits)), right,
        right.astype(np.uint8), wire=dict.fromkeys(keys, 1.0),
    )  # fmt: skip


def test_every_sample_is_encoded_as_it_would_be_sent(camera):
    keys = [(1, "jpeg75", 0), (4, "jpeg75", 0), (2, "int4c+zstd", 3), (4, "int4c+zstd", 3),
            (2, "int8c+zstd", camera.spec.exits[2].after + 1), (3, "bottleneck", 3)]  # fmt: skip
    pictures = made_pictures(camera, 5)
    done = []
    found = record_sizes(
        camera, outcomes_of(camera, keys, 5), pictures, lambda k, total: done.append((k, total))
    )
    assert done[-1] == (5, 5)
    assert found.model_digest == camera.digest
    assert set(found.keys) == set(keys[:-1])  # a latent's bytes are the same of all
    assert len(found.sizes) == 3
    executor = make_executor("onnx", camera)
    for exit_, name, cut in found.keys:
        codec = codec_named(name)
        for number, picture in enumerate(pictures.x):
            crossing = picture
            if codec.carries == "tensor":
                x = camera.normalise(picture[None])
                crossing = executor.run(exit_, 0, cut, x)[0]
            data = codec.encode(crossing, Shared(camera.ranges_at(exit_, cut))).data
            assert found.bytes_of(exit_, name, cut)[number] == len(data)


def test_other_pictures_than_the_outcomes_are_refused(camera):
    outcomes = outcomes_of(camera, [(1, "jpeg75", 0)], 5)
    with pytest.raises(UsageError, match="found 4 pictures, expected the 5 of its outcomes"):
        record_sizes(camera, outcomes, made_pictures(camera, 4))


def test_a_model_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        recording.main(["mars"])
    assert ended.value.code == 2
    assert "found 'mars'" in capsys.readouterr().err


def test_as_many_pictures_are_computed_at_once_as_fit(camera, monkeypatch):
    exits = len(camera.spec.exits)
    one = 4 * int(np.prod(camera.spec.shapes[exits - 1][3]))
    monkeypatch.setattr(recording, "HELD_BYTES", 7 * one + 1)
    assert recording.batch_of(camera, {(exits - 1, 3)}) == 7
    assert recording.batch_of(camera, {(exits - 1, 3), (exits - 2, 3)}) == 3
    monkeypatch.setattr(recording, "HELD_BYTES", 1)
    assert recording.batch_of(camera, {(exits - 1, 3)}) == 1
    seen = []
    keys = [(4, "int4c+zstd", 3)]
    record_sizes(
        camera, outcomes_of(camera, keys, 3), made_pictures(camera, 3),
        lambda done, total: seen.append(done),
    )  # fmt: skip
    assert seen == [1, 2, 3]
    monkeypatch.setattr(recording, "HELD_BYTES", 2**40)
    assert recording.batch_of(camera, {(exits - 1, 3)}) == recording.BATCH
