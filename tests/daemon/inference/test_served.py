"""The one model that a daemon serves: its samples, its answers, and what it does not answer."""

import asyncio
import threading

import numpy as np
import pytest
from made_networks import KINDS, TOKENS, made_model, made_service

from artefacts import UsageError
from controller.daemon.inference.answering import (
    Wanted,
    answer_parameters,
    outputs_of,
    short_answer,
)
from controller.daemon.inference.open_inference import InferRequest
from controller.daemon.inference.pictures import JpegFiles
from controller.daemon.inference.refusals import TooLateError
from controller.daemon.inference.served import WRITTEN_AT_ONCE
from controller.daemon.inference.texts import VOCABULARY, Texts
from models.executors import OnnxExecutor

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(40))]


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def answers(served, samples, patient=True, **more):
    asked = InferRequest(samples, deadline_s=20.0 if patient else 1.0, **more)
    return asyncio.run(served.answers(asked, served.now_s()))


def whole(model, raw):
    last = len(model.spec.exits) - 1
    return OnnxExecutor(model).run(last, 0, len(model.spec.branches[last]), model.normalise(raw))


def test_a_text_is_answered_as_its_ids_are(folder):
    model = made_model("words", folder)
    (model.folder / VOCABULARY).write_text("\n".join(PIECES) + "\n")
    ids = np.zeros((2, TOKENS), np.int32)
    ids[0, :4], ids[1, :5] = [2, 5, 9, 3], [2, 5, 3, 9, 3]
    with made_service(model) as served:
        assert "or texts as BYTES" in served.signature.taken
        found = answers(served, Texts((("1 5", None), ("1", "5"))))
        assert [a.label for a in found] == whole(model, ids).argmax(axis=1).tolist()
        assert answer_parameters(found, served.signature)["class"] in model.card.classes
        short = short_answer(found[0], served.signature)
        assert short["class"] == model.card.classes[found[0].label]


def test_a_picture_s_file_is_refused_by_a_network_that_takes_none(folder):
    with made_service(made_model("sound", folder)) as served:
        with pytest.raises(UsageError, match="found a JPEG file, expected INT16 or FP32"):
            answers(served, JpegFiles((b"\xff\xd8\xff",)))
        with pytest.raises(UsageError, match="picture: found a JPEG file"):
            _ = served.signature.size


def test_values_that_are_no_numbers_are_no_answer(folder):
    model = made_model("sound", folder, weight=1e30)
    loud = np.full((1, 400), 30_000, np.int16)
    with made_service(model) as served, pytest.raises(TooLateError) as error:
        answers(served, loud)
    assert "found values of exit 2 that are no numbers" in str(error.value)


@pytest.mark.parametrize("plan", [0, 1, 2, 3])
def test_scores_that_are_no_numbers_are_no_class(folder, plan):
    """An exponent of what is infinite is no number, and the first class is none that was meant."""
    model = made_model("words", folder, weight=1e30)
    with made_service(model, plan) as served:
        with pytest.raises(TooLateError, match="no answer in time by plan"):
            answers(served, np.full((1, TOKENS), 49, np.int32), patient=False)
        assert served.service.counts.answered == 0


def test_long_answers_are_written_beside_the_event_loop(folder):
    def where():
        return threading.current_thread().name

    with made_service(made_model("sound", folder)) as served:
        loops = asyncio.run(served.written(where, 1))
        assert loops == threading.current_thread().name
        many = WRITTEN_AT_ONCE // served.signature.values + 1
        assert asyncio.run(served.written(where, many)).endswith("work")


@pytest.mark.parametrize("kind", KINDS)
def test_every_output_is_of_the_datatype_and_shape_that_metadata_say(folder, kind):
    model = made_model(kind, folder)
    rng = np.random.default_rng(0)
    raw = model.preprocessing.raw_shape(model.spec.input_shape)
    samples = rng.integers(0, 50, (3, *raw)).astype(
        np.float32 if kind in ("tensors", "own") else
        {"tokens": np.int32, "words": np.int32, "sound": np.int16, "detector": np.uint8}[kind]
    )  # fmt: skip
    with made_service(model) as served:
        found = answers(served, samples)
        said = {o["name"]: o for o in served.metadata()["outputs"]}
        tensors = outputs_of([Wanted(name) for name in said], found, served.signature)
    for tensor in tensors:
        wanted = said[tensor.name]
        assert tensor.datatype == wanted["datatype"]
        assert len(tensor.shape) == len(wanted["shape"])
        assert tensor.shape[0] == 3
        for given, expected in zip(tensor.shape, wanted["shape"], strict=True):
            assert expected in (-1, given)
        assert len(tensor.flat()) == np.prod(tensor.shape)
        assert isinstance(tensor.raw(), bytes)


def test_a_short_answer_of_every_kind_says_what_is_there(folder):
    for kind, names in (
        ("tokens", {"labels"}), ("detector", {"detections", "best_score"}), ("sound", {"outputs"}),
        ("own", {"outputs"}), ("words", {"label", "class"}),
    ):  # fmt: skip
        model = made_model(kind, folder)
        takes, shape = model.preprocessing, model.spec.input_shape
        sample = np.ones((1, *takes.raw_shape(shape)), np.int32)
        sample = sample.astype({"sound": "i2", "detector": "u1", "own": "f4"}.get(kind, "i4"))
        with made_service(model) as served:
            (answer,) = answers(served, sample)
            short = short_answer(answer, served.signature)
        own = set(short) - {"confidence", "exit", "plan", "where", "latency_ms"}
        assert own == names
        if kind == "detector":
            assert all(
                set(one) == {"box", "label", "class", "score"} for one in short["detections"]
            )
            assert 0.0 <= short["best_score"] <= 1.0
