"""The models of an edge: what may be asked of each, what is refused, what an answer looks like."""

import dataclasses

import msgspec
import numpy as np
import pytest

from artefacts import CoinferError
from controller.edge.arrivals import Arrival, Timing
from controller.edge.served import ENCODED_EXTRA_BYTES, ServedModels
from models.codecs import LEARNED
from models.executors import OnnxExecutor
from models.facts.answers import BoxesAnswer, LabelsAnswer
from models.facts.cards import load_model
from models.facts.meaning import meaning_digest
from models.facts.preprocessing import PictureInput, TokenInput

pytestmark = pytest.mark.quick

EXIT = 2


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture
def models(stream, executor):
    made = ServedModels()
    made.add(stream.model, executor)
    return made


@pytest.fixture
def ask(stream, models):
    """Asks for a whole branch from a picture, but for what is said to be otherwise."""
    branch = stream.spec.branches[EXIT]
    channels, height, width = stream.spec.shapes[EXIT][0]
    usual = {
        "model": stream.model.digest, "exit": EXIT, "start": 0, "stop": len(branch),
        "codec": "uint8", "shape": [height, width, channels],
    }  # fmt: skip

    def one(data=b"", without=(), **change):
        meta = {k: v for k, v in (usual | change).items() if k not in without}
        return models.asked(Arrival(1, meta, data, Timing(0.0, 0.0)))

    return one


def test_a_request_says_what_is_computed_and_how_its_tensor_came(stream, ask):
    stop = len(stream.spec.branches[EXIT])
    assert ask() == ((stream.model.digest, EXIT, 0, stop), "uint8")
    shape = list(stream.spec.shapes[EXIT][3])
    asked = ask(start=3, stop=5, codec="float32", shape=shape)
    assert asked == ((stream.model.digest, EXIT, 3, 5), "float32")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "f" * 64}, "model digest: found ffffffffffff…, expected "),
        ({"model": 7}, "model"),
        ({"exit": 99}, "exit"),
        ({"exit": -1}, "exit"),
        ({"start": 5, "stop": 4}, "stop"),
        ({"stop": 10_000}, "stop"),
        ({"codec": "morse"}, "codec: found 'morse'"),
        ({"shape": [1, 2]}, r"tensor shape: found \(1, 2\), expected \("),
        ({"start": 3}, "expected \\(\\) as uint8"),
        ({"without": ("exit",)}, "exit"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(ask, change, said):
    with pytest.raises(CoinferError, match=said) as refused:
        ask(**change)
    assert "\n" not in str(refused.value)


def test_a_payload_is_no_longer_than_its_tensor_can_be(stream, ask):
    most = 4 * int(np.prod(stream.spec.shapes[EXIT][0])) + ENCODED_EXTRA_BYTES
    assert ask(data=bytes(most))
    with pytest.raises(CoinferError, match=f"found {most + 1} bytes, expected at most {most}"):
        ask(data=bytes(most + 1))


def test_models_are_served_side_by_side(stream, models, executor):
    other = dataclasses.replace(stream.model, digest="a" * 64)
    assert models.unknown(other.digest).endswith(f"{stream.model.digest[:12]}…")
    models.add(other, executor)
    assert models.unknown(other.digest) is None
    assert models[other.digest].model is other
    assert models.unknown("b" * 64).endswith(f"{stream.model.digest[:12]}…, aaaaaaaaaaaa…")


def test_where_the_branch_ends_the_answer_is_a_class_else_the_tensor(stream, models, executor):
    served, length = models[stream.model.digest], len(stream.spec.branches[EXIT])
    x = np.random.default_rng(0).normal(size=(1, *stream.spec.shapes[EXIT][0])).astype(np.float32)
    logits = executor.run(EXIT, 0, length, x)
    meta, data = served.answer((stream.model.digest, EXIT, 0, length), logits)
    assert (meta["class"], meta["bytes"], data) == (int(logits.argmax()), 0, b"")
    assert 1 / logits.shape[1] <= meta["confidence"] <= 1.0
    tensor = executor.run(EXIT, 0, 4, x)
    meta, data = served.answer((stream.model.digest, EXIT, 0, 4), tensor)
    assert meta == {"bytes": tensor.nbytes, "shape": list(tensor.shape[1:])}
    assert np.array_equal(np.frombuffer(data, "<f4").reshape(tensor.shape), tensor)


def test_a_greeting_announces_intervals_that_the_network_has(stream, models):
    digest, length = stream.model.digest, len(stream.spec.branches[EXIT])
    good = [[EXIT, 0, length], [0, 1, 2]]
    bad = [[EXIT, 3, 3], [EXIT, 0, length + 1], [99, 0, 1], [-1, 0, 1], [0, 1], "0", [0, True, 2],
           [0, 0.0, 1], None]  # fmt: skip
    assert models.intervals(digest, [*bad, *good], 50) == [(digest, *item) for item in good]
    assert models.intervals(digest, good, 1) == [(digest, EXIT, 0, length)]
    for nothing in (None, 7, "x", {}, []):
        assert models.intervals(digest, nothing, 50) == []


def test_preparing_an_interval_runs_it_and_the_learned_codec_before_it():
    class Recorded(OnnxExecutor):
        def run(self, branch, start, stop, x):
            ran.append((branch, start, stop, x.shape, float(np.abs(x).max())))
            return super().run(branch, start, stop, x)

        def decode(self, codec, branch, cut, meta, data):
            decoded.append((codec, branch, cut))
            return super().decode(codec, branch, cut, meta, data)

    model = load_model("mobilenetv2")
    last = len(model.spec.branches) - 1
    (cut,) = (k for k in range(len(model.spec.branches[last])) if model.spec.bottleneck(k))
    ran, decoded, models = [], [], ServedModels()
    models.add(model, Recorded(model))
    asked = [(last, cut - 1, cut + 1), (last, cut, cut + 1)]
    for interval in asked:
        models[model.digest].prepare((model.digest, *interval))
    shapes = model.spec.shapes[last]
    assert ran == [(*interval, (1, *shapes[interval[1]]), 0.0) for interval in asked]
    assert decoded == [(LEARNED, last, cut)]


def otherwise(model, **change):
    """The same weights with another card."""
    return dataclasses.replace(model, card=msgspec.structs.replace(model.card, **change))


def test_a_device_whose_card_reads_pictures_otherwise_is_turned_away(stream, models):
    digest, card = stream.model.digest, stream.model.card
    blue_first = otherwise(stream.model, preprocessing=PictureInput(channels="bgr")).card
    assert models.unknown(digest, meaning_digest(card)) is None
    assert models.unknown(digest) is None  # a device that does not say
    said = models.unknown(digest, meaning_digest(blue_first))
    assert said == (
        f"card of '{stream.spec.name}': found other preprocessing or answers on the device than "
        "the edge's card.json has, expected the same"
    )


def test_what_a_card_is_called_or_measured_is_no_other_meaning(stream):
    card = stream.model.card
    assert meaning_digest(msgspec.structs.replace(card, test_accuracies=())) == meaning_digest(card)
    meant = {
        meaning_digest(otherwise(stream.model, **change).card)
        for change in (
            {"preprocessing": PictureInput(mean=(0.5,))},
            {"preprocessing": PictureInput(fit="letterbox")},
            {"preprocessing": TokenInput(100)},
            {"preprocessing": TokenInput(101)},
            {"answers": LabelsAnswer()},
            {"answers": LabelsAnswer(0.6)},
            {"answers": BoxesAnswer(5)},
        )
    }
    assert len(meant | {meaning_digest(card)}) == 8


def test_the_same_weights_are_not_served_by_two_cards(stream, models, executor):
    models.add(stream.model, executor)  # the same again is no contradiction
    other = otherwise(stream.model, preprocessing=PictureInput(channels="bgr"))
    with pytest.raises(CoinferError, match="whose weights are the same and whose preprocessing"):
        models.add(other, executor)
