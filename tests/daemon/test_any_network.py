"""Networks of tokens, sound and tensors, as clients meet them: device, edge, HTTP, gRPC, client.

Whatever way an answer takes, it is the one that the network gives when it is run whole.
"""

import asyncio
import contextlib
import importlib
import io
import threading
import wave

import numpy as np
import pytest
from made_networks import BOXES, KINDS, RATE_HZ, SAMPLES, SIDE, TOKENS, made_model, made_service
from PIL import Image

from controller.daemon.client import AsyncClient, Client, DeviceError
from controller.daemon.configuration.settings import GrpcSettings, HttpSettings
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.serving import LocalService
from models.executors import OnnxExecutor

PATIENT = {"deadline_ms": 20_000}
PLANS = {0: "device", 1: "edge", 2: "edge", 3: "device"}
"""Of the made table: who gives the answer."""


@contextlib.contextmanager
def listening(served):
    """Where a model listens over HTTP, on a loop of its own."""
    begun, end, where = threading.Event(), threading.Event(), []

    async def main():
        metrics = DeviceMetrics(served.service.engine, lambda: 0)
        async with LocalService(served, metrics, HttpSettings(port=0), None).serving() as found:
            where.extend(found)
            begun.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert begun.wait(30)
        yield where
    finally:
        end.set()
        thread.join()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: made_model(kind, folder) for kind in KINDS}


def whole(model, raw):
    """The last exit's row of raw samples (N, ...), of the network as it is."""
    last = len(model.spec.exits) - 1
    length = len(model.spec.branches[last])
    return OnnxExecutor(model).run(last, 0, length, model.normalise(raw))


RNG = np.random.default_rng(1)
IDS = RNG.integers(1, 50, TOKENS).astype(np.int32)
SOUND = RNG.integers(-20_000, 20_000, SAMPLES).astype(np.int16)
FEATURES = RNG.normal(size=(2, 3)).astype(np.float32)
MASK = np.array([1, 0, 1, 1], dtype=np.int64)
PAIR = {"features": FEATURES, "mask": MASK}
PICTURE = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
PACKED = np.concatenate([FEATURES.ravel(), MASK.astype(np.float32)])
SAMPLE = {
    "tokens": (IDS, IDS), "sound": (SOUND, SOUND), "tensors": (PAIR, PACKED), "own": (PAIR, PACKED),
    "words": (IDS.tolist(), IDS), "detector": (PICTURE, PICTURE),
}  # fmt: skip
"""What the client is given, and the raw sample that it is."""


def wav(samples, rate_hz=RATE_HZ, channels=1, width=2):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def check(kind, model, found, raw):
    """An answer of the client is that of the whole network."""
    row = whole(model, raw[None])[0]
    if kind == "words":
        assert found.label == int(row.argmax())
        assert found.class_name == model.card.classes[found.label]
        assert not found.outputs
    elif kind == "tokens":
        assert found.label is None
        scores = 1.0 / (1.0 + np.exp(-row))
        assert np.allclose(found.outputs["scores"], scores, atol=1e-5)
        assert found.outputs["labels"].tolist() == (scores > 0.5).astype(int).tolist()
        named = [model.card.classes[k] for k in np.flatnonzero(scores > 0.5)]
        assert found.outputs["names"] == named
    elif kind == "sound":
        assert np.allclose(found.outputs["vector"], row, atol=1e-5)
        assert found.confidence == 0.0
    elif kind in ("tensors", "detector"):
        seen = BOXES.detections(row)
        assert found.outputs["count"] == len(seen.scores) > 0
        assert np.allclose(found.outputs["boxes"], seen.boxes, atol=1e-5)
        assert np.allclose(found.outputs["scores"], seen.scores, atol=1e-5)
        assert found.outputs["labels"].tolist() == seen.labels.tolist()
        assert found.outputs["names"] == [("cat", "dog")[k] for k in seen.labels]
    else:
        assert found.outputs["mask"].tolist() == (row[:2] != 0).tolist()
        assert np.allclose(found.outputs["depth"], row[2:6].reshape(2, 2), atol=1e-5)
        assert int(found.outputs["count"]) == int(np.rint(row[6]))
        assert found.confidence == pytest.approx(float(np.clip(row[7], 0, 1)), abs=1e-5)
        assert found.outputs["depth"].dtype == np.float64


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_plan_gives_the_whole_networks_answer(models, kind, plan):
    given, raw = SAMPLE[kind]
    with made_service(models[kind], plan) as served, listening(served) as (address,):
        with Client(address) as client:
            found = client.infer(given, deadline_s=20.0)
            check(kind, models[kind], found, raw)
            assert found.where == PLANS[plan]
            assert found.exit == 2
            assert client.state()["model"] == kind


@pytest.fixture(scope="module")
def everything(models):
    """All of them, listening over HTTP."""
    with contextlib.ExitStack() as stack:
        found = {}
        for kind, model in models.items():
            served = stack.enter_context(made_service(model))
            found[kind] = stack.enter_context(listening(served))
        yield found


def ask(everything, kind, sample):
    with Client(everything[kind][0]) as client:
        return client.infer(sample, deadline_s=20.0)


def refused(everything, kind, sample):
    with pytest.raises(DeviceError) as error:
        ask(everything, kind, sample)
    assert error.value.status == 400, str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_shorter_samples_are_filled(everything, models):
    filled = np.where(np.arange(TOKENS) < 5, IDS, 0).astype(np.int32)
    check("tokens", models["tokens"], ask(everything, "tokens", IDS[:5].tolist()), filled)
    silent = np.where(np.arange(SAMPLES) < 90, SOUND, 0).astype(np.int16)
    for short in (SOUND[:90], wav(SOUND[:90]), SOUND[:90] / np.float32(32768.0)):
        check("sound", models["sound"], ask(everything, "sound", short), silent)


def test_a_file_of_two_channels_is_their_mean(everything, models):
    both = np.stack([SOUND, SOUND], axis=1)
    check("sound", models["sound"], ask(everything, "sound", wav(both, channels=2)), SOUND)


@pytest.mark.parametrize(
    ("kind", "sample", "said"),
    [
        ("tokens", [1, 2, 50], "inputs[0]: found ids from 1 to 50, expected 0 to 49"),
        ("tokens", [-1], "found ids from -1 to -1"),
        ("tokens", [2**62], "expected 0 to 49"),
        ("tokens", [1] * (TOKENS + 1), "found [1, 13], expected (N, 12 or fewer)"),
        ("tokens", "a text", "found BYTES, expected token ids of a whole datatype"),
        ("tokens", {"tokens": np.ones(3, np.float32)}, "found FP32, expected token ids"),
        ("tokens", {"words": np.ones(3, np.int32)}, "found 'words', expected 'tokens'"),
        ("tokens", PICTURE, "inputs[0].name: found 'picture', expected 'tokens'"),
        ("tokens", b"\xff\xd8\xff\xe0", "picture: found a JPEG file, expected token ids"),
        ("sound", np.full(9, 1.5, np.float32), "found values beyond -1 to 1"),
        ("sound", np.array([np.nan], np.float32), "found values beyond -1 to 1"),
        ("sound", np.zeros(SAMPLES + 1, np.int16), "expected (N, 400 or fewer)"),
        ("sound", wav(SOUND, 16_000), "found 16,000 samples a second, expected 8,000"),
        ("sound", wav(np.zeros(SAMPLES + 1, np.int16)), "found 401 samples, expected 1 to 400"),
        ("sound", wav(SOUND.astype(np.uint8), width=1), "found a WAV file of format 1 and 8 bits"),
        ("sound", wav(SOUND)[:30], "sound: found a WAV"),
        ("tensors", {"features": FEATURES}, "inputs: found"),
        ("tensors", PAIR | {"mask": MASK.astype(np.float32) + 0.5}, "'mask': found fractions"),
        ("tensors", PAIR | {"features": FEATURES.astype(np.float64) / 3}, "FP32 does not hold"),
        ("tensors", PAIR | {"features": FEATURES * np.nan}, "that are not finite"),
        ("tensors", PAIR | {"mask": MASK * 2**24}, "found values from 0 to 1.67772e+07"),
        ("tensors", PAIR | {"mask": MASK * -(2**63)}, "expected -1.67772e+07 to"),
        ("tensors", PAIR | {"mask": MASK[:2]}, "found [1, 2], expected (N, 4)"),
        ("tensors", {"features": FEATURES, "other": MASK}, "found 'other', expected 'mask'"),
        ("own", {"features": FEATURES, "mask": MASK, "more": MASK}, "another number, expected 2"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_refused_in_one_line(everything, kind, sample, said):
    assert said in refused(everything, kind, sample)


def test_a_picture_s_file_is_answered_by_what_is_seen(everything, models):
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "JPEG", quality=95)
    seen = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    found = ask(everything, "detector", stream.getvalue())
    row = whole(models["detector"], seen[None])[0]
    expected = BOXES.detections(row)
    assert np.allclose(found.outputs["boxes"], expected.boxes, atol=1e-4)
    assert found.outputs["labels"].tolist() == expected.labels.tolist()
    assert found.outputs["names"] == [("cat", "dog")[k] for k in expected.labels]
    assert found.label is None


def test_many_at_once(everything, models):
    async def run():
        async with AsyncClient(everything["tensors"][0]) as client:
            return await asyncio.gather(*(client.infer(PAIR, deadline_s=20.0) for _ in range(8)))

    for found in asyncio.run(run()):
        check("tensors", models["tensors"], found, PACKED)


# -- Triton's client -------------------------------------------------------------------------------

TYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
with contextlib.suppress(ImportError):
    import ml_dtypes

    TYPES["BF16"] = ml_dtypes.bfloat16


def serve(model, work):
    """Call `work(way, library, client)` for Triton's clients over HTTP and over gRPC.

    Whoever starts the gRPC process must be the main thread, so that the clients have another one.
    """

    def both(where):
        for way, address in zip(("http", "grpc"), where, strict=True):
            library = importlib.import_module(f"tritonclient.{way}")
            client = library.InferenceServerClient(address.split("://")[-1])
            with contextlib.closing(client):
                work(way, library, client)

    async def main(served):
        metrics = DeviceMetrics(served.service.engine, lambda: 0)
        local = LocalService(served, metrics, HttpSettings(port=0), GrpcSettings(0))
        async with local.serving() as where:
            await asyncio.to_thread(both, where)

    for way in ("http", "grpc"):
        pytest.importorskip(f"tritonclient.{way}", reason="tritonclient is not installed")
    with made_service(model) as served:
        asyncio.run(main(served))


def made_input(library, way, name, array, datatype, binary=True):
    made = library.InferInput(name, list(array.shape), datatype)
    if way == "http":
        made.set_data_from_numpy(array, binary_data=binary)
    else:
        made.set_data_from_numpy(array)
    return made


def test_every_datatype_is_taken_where_nothing_is_lost(models):
    def work(way, library, client):
        for datatype, kind in TYPES.items():
            features = np.array([[0, 1, 1], [1, 0, 1]]).astype(kind)
            mask = MASK.astype(kind)
            packed = np.concatenate([features.ravel(), mask]).astype(np.float32)
            expected = BOXES.detections(whole(models["tensors"], packed[None])[0])
            # Triton's client writes neither of the two short floats as JSON
            raw_only = way == "grpc" or datatype in ("FP16", "BF16")
            for binary in (True,) if raw_only else (True, False):
                pair = [
                    made_input(library, way, name, array[None], datatype, binary)
                    for name, array in (("mask", mask), ("features", features))
                ]
                found = client.infer("tensors", pair, parameters=PATIENT)
                assert np.allclose(found.as_numpy("boxes")[0], expected.boxes, atol=1e-5)
                assert found.as_numpy("count").tolist() == [len(expected.scores)]

    serve(models["tensors"], work)


def test_metadata_say_the_signature_and_outputs_come_by_name(models):
    row = whole(models["own"], PACKED[None])[0]

    def described(client):
        found = client.get_model_metadata("own")
        assert found["inputs"] == [
            {"name": "features", "datatype": "FP32", "shape": [-1, 2, 3]},
            {"name": "mask", "datatype": "INT64", "shape": [-1, 4]},
        ]
        assert [(o["name"], o["datatype"], o["shape"]) for o in found["outputs"]] == [
            ("mask", "BOOL", [-1, 2]), ("depth", "FP64", [-1, 2, 2]), ("count", "INT64", [-1]),
            ("confidence", "FP32", [-1]), ("exit", "INT32", [-1]),
        ]  # fmt: skip
        config = client.get_model_config("own")
        assert config["input"][1] == {"name": "mask", "data_type": "TYPE_INT64", "dims": [4]}
        assert config["output"][1]["dims"] == [2, 2]

    def work(way, library, client):
        if way == "http":
            described(client)
        else:
            found = client.get_model_metadata("own")
            assert [list(t.shape) for t in found.inputs] == [[-1, 2, 3], [-1, 4]]
        pair = [
            made_input(library, way, "features", FEATURES[None], "FP32"),
            made_input(library, way, "mask", MASK[None], "INT64"),
        ]
        answer = client.infer("own", pair, parameters=PATIENT)
        assert answer.as_numpy("mask").tolist() == [(row[:2] != 0).tolist()]
        assert np.allclose(answer.as_numpy("depth")[0], row[2:6].reshape(2, 2), atol=1e-5)
        wanted = [library.InferRequestedOutput("count")]
        answer = client.infer("own", pair, outputs=wanted, parameters=PATIENT)
        assert answer.as_numpy("count").tolist() == [int(np.rint(row[6]))]
        assert answer.as_numpy("depth") is None

    serve(models["own"], work)


def test_labels_are_flags_scores_and_names(models):
    rows = np.stack([IDS, IDS[::-1]])
    scores = 1.0 / (1.0 + np.exp(-whole(models["tokens"], rows)))
    names = [[n.encode() for n, s in zip("abcde", row, strict=True) if s > 0.5] for row in scores]
    most = max(len(row) for row in names)

    def work(way, library, client):
        given = made_input(library, way, "tokens", rows, "INT32")
        found = client.infer("tokens", [given], parameters=PATIENT)
        assert found.as_numpy("labels").tolist() == (scores > 0.5).astype(int).tolist()
        assert np.allclose(found.as_numpy("scores"), scores, atol=1e-5)
        filled = [row + [b""] * (most - len(row)) for row in names]
        assert found.as_numpy("names").tolist() == filled

    serve(models["tokens"], work)
