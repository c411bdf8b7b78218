"""An edge that serves tokens and sound: what crosses by their codecs, and hostile bytes in them."""

import math
import time

import numpy as np
import pytest
from made_networks import made_model

from artefacts import CoinferError, UsageError
from controller.edge.arrivals import Arrival, Timing
from controller.edge.computing import Computing, Job
from controller.edge.scheduler import Scheduler, SchedulerArgs
from controller.edge.served import ServedModels
from models.executors import OnnxExecutor
from models.facts.cards import load_model

TOKENS, SOUND = (12,), (400,)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    found = {kind: made_model(kind, folder) for kind in ("tokens", "sound", "tensors")}
    models = ServedModels()
    for model in found.values():
        models.add(model, OnnxExecutor(model))
    return models, found


def asked(served, kind, codec, shape, data, **more):
    models, found = served
    model = found[kind]
    meta = {
        "model": model.digest, "exit": 1, "start": 0, "stop": len(model.spec.branches[1]),
        "codec": codec, "shape": list(shape), "bytes": len(data),
    } | more  # fmt: skip
    return models.asked(Arrival(1, meta, data, None))


def decoded(served, kind, codec, data):
    """What the network is given of bytes that have been let in."""
    models, found = served
    return models[found[kind].digest].executor.decode(codec, 1, 0, {}, data)


@pytest.mark.parametrize(
    ("kind", "codec", "shape", "data", "said"),
    [
        ("tokens", "pcm16", TOKENS, bytes(24), "found 'pcm16' of a sound, expected one that"),
        ("sound", "ids16", SOUND, bytes(2), "found 'ids16' of a tokens, expected one that model"),
        ("tokens", "uint8", TOKENS, bytes(12), "found 'uint8' of a picture"),
        ("tensors", "ids16", (10,), bytes(20), "found 'ids16' of a tokens"),
        ("tokens", "ids16", (2**31,), bytes(2), "shape: found [2147483648], expected one to"),
        ("tokens", "ids16", (12, 1), bytes(2), "tensor shape: found"),
        ("tokens", "ids16", TOKENS, bytes(2**16), "payload: found 65536 bytes, expected at most"),
        ("sound", "mulaw", (401,), bytes(401), "tensor shape: found (401,), expected (400,)"),
    ],
)
def test_what_a_network_does_not_take_is_not_let_in(served, kind, codec, shape, data, said):
    with pytest.raises(CoinferError) as error:
        asked(served, kind, codec, shape, data)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_input_s_codec_crosses_no_other_cut(served):
    with pytest.raises(UsageError, match="tensor shape"):
        asked(served, "tokens", "ids16", TOKENS, bytes(2), start=1)


@pytest.mark.parametrize(
    ("kind", "codec", "data", "said"),
    [
        ("tokens", "ids16", b"\x32\0", "found ids from 50 to 50, expected 0 to 49"),
        ("tokens", "ids32", b"\xff\xff\xff\xff", "found id 4294967295, expected 31 bits"),
        ("tokens", "ids16", b"\1", "found 1 bytes, expected 2 to 24"),
        ("tokens", "ids16", b"", "found 0 bytes"),
        ("tokens", "ids16", bytes(26), "found 26 bytes, expected 2 to 24"),
        ("sound", "pcm16", bytes(799), "found 799 bytes, expected 800"),
        ("sound", "mulaw", bytes(401), "found 401 bytes, expected 400"),
    ],
)
def test_bytes_that_are_none_of_its_samples_are_refused(served, kind, codec, data, said):
    shape = TOKENS if kind == "tokens" else SOUND
    interval, name = asked(served, kind, codec, shape, data)
    assert (interval[1:3], name) == ((1, 0), codec)
    with pytest.raises(UsageError) as error:
        decoded(served, kind, codec, data)
    assert said in str(error.value)


def test_answers_that_are_no_class_are_rows_and_their_confidence(served):
    models, found = served
    for kind, model in found.items():
        one, stop = models[model.digest], len(model.spec.branches[1])
        row = np.linspace(-1, 1, model.spec.classes, dtype=np.float32)[None]
        meta, data = one.answer((model.digest, 1, 0, stop), row)
        assert np.array_equal(np.frombuffer(data, "<f4"), row[0]), kind
        assert meta["bytes"] == len(data)
        assert meta["confidence"] == pytest.approx(model.answer(1, row).confidence)
        assert "class" not in meta
        one.prepare((model.digest, 1, 0, stop))


class Heard:
    """What became of each request, by its number; the computing ends with the last of them."""

    def __init__(self, awaited):
        self.answered, self.failed_ones, self._awaited, self.computing = {}, {}, awaited, None

    def _count(self, count):
        self._awaited -= count
        if not self._awaited:
            self.computing.close()

    def computed(self, answers):
        self.answered |= {a.job.arrival.request_id: a.meta for a in answers}
        self._count(len(answers))

    def failed(self, job, error):
        self.failed_ones[job.arrival.request_id] = str(error)
        self._count(1)


def test_ids_that_a_network_lacks_cost_no_other_device_its_answer():
    """Ids may cross as the tensor that the network takes: nobody knows then what they are."""
    model = load_model("minilm-sst2")
    models, (length,) = ServedModels(), model.spec.input_shape
    models.add(model, OnnxExecutor(model))
    heard = Heard(3)
    computing = Computing(
        models, Scheduler(SchedulerArgs()), heard, time.monotonic, lambda: False, 8
    )
    heard.computing = computing
    good = ("ids16", np.array([101, 2023, 102, 0], "<u2").tobytes())
    bad = ("float32", np.full(length, math.nan, "<f4").tobytes())
    for number, (codec, data) in enumerate((good, bad, good)):
        meta = {
            "model": model.digest, "exit": 0, "start": 0, "stop": len(model.spec.branches[0]),
            "codec": codec, "shape": [length], "bytes": len(data),
        }  # fmt: skip
        arrival = Arrival(number, meta, data, Timing(0.0, 0.0))
        interval, name = models.asked(arrival)
        assert computing.offer(interval, Job(f"device {number}", arrival, name)) is None
    computing.run()
    assert sorted(heard.answered) == [0, 2]
    assert heard.answered[0]["class"] == heard.answered[2]["class"]
    assert list(heard.failed_ones) == [1]
