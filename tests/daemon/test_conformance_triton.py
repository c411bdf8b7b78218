"""Triton's own client libraries, unchanged, against a daemon: HTTP and gRPC, sync and async."""

import asyncio
import io
import threading

import numpy as np
import pytest
from PIL import Image

from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

pytest.importorskip("tritonclient", reason="tritonclient is not installed (extra dev)")
http = pytest.importorskip("tritonclient.http", reason="tritonclient lacks its HTTP half")
http_aio = pytest.importorskip("tritonclient.http.aio", reason="tritonclient lacks its HTTP half")
grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient lacks its gRPC half")
grpc_aio = pytest.importorskip("tritonclient.grpc.aio", reason="tritonclient lacks its gRPC half")

from tritonclient.utils import InferenceServerException  # noqa: E402

PATIENT = {"deadline_ms": 5000}


@pytest.fixture(scope="module")
def daemon(running_module):
    with running_module("[grpc]\nport = 0\n") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def expected(stream):
    """Labels by exit (from 1), computed here."""
    executor = OnnxExecutor(stream.model)

    def labels(pictures, exit_):
        stop = len(stream.spec.branches[exit_ - 1])
        normal = stream.model.normalise(pictures)
        return executor.run(exit_ - 1, 0, stop, normal).argmax(axis=1)

    return labels


class Sync:
    """A blocking client, as its asynchronous siblings are called."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        async def call(*args, **options):
            return getattr(self.client, name)(*args, **options)

        return call


CLIENTS = {
    "http": (http, lambda d: Sync(http.InferenceServerClient(d.address[7:]))),
    "http.aio": (http, lambda d: http_aio.InferenceServerClient(d.address[7:])),
    "grpc": (grpc, lambda d: Sync(grpc.InferenceServerClient(d.grpc))),
    "grpc.aio": (grpc, lambda d: grpc_aio.InferenceServerClient(d.grpc)),
}


@pytest.fixture(params=CLIENTS)
def use(request, daemon):
    """Run a scenario with (library, client)."""
    library, make = CLIENTS[request.param]

    def run(scenario):
        async def whole():
            client = make(daemon)
            try:
                async with asyncio.timeout(60):
                    await scenario(library, client)
            finally:
                await client.close()

        asyncio.run(whole())

    return run


def given(library, pictures, binary=True):
    made = library.InferInput("picture", list(pictures.shape), "UINT8")
    if library is http:
        made.set_data_from_numpy(pictures, binary_data=binary)
    else:
        made.set_data_from_numpy(pictures)
    return made


def text(value):
    """A status or a datatype, whatever kind of text it is."""
    return str(value)


async def refused(call):
    with pytest.raises(InferenceServerException) as error:
        await call
    assert "\n" not in error.value.message()
    return text(error.value.status()), error.value.message()


def test_health_and_metadata(use):
    async def scenario(library, client):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("alexnet")
        assert await client.is_model_ready("alexnet", "1")
        server = await client.get_server_metadata()
        model = await client.get_model_metadata("alexnet", "1")
        if library is grpc:
            from google.protobuf.json_format import MessageToDict

            server, model = (MessageToDict(m) for m in (server, model))
        assert server["name"] == "coinfer"
        assert set(server["extensions"]) == {"binary_tensor_data", "parameters"}
        assert model["inputs"][0]["datatype"] == "UINT8"
        assert [int(n) for n in model["inputs"][0]["shape"]] == [-1, 32, 32, 3]
        if library is not grpc:
            config = await client.get_model_config("alexnet", "1")
            assert (config["max_batch_size"], config["input"][0]["dims"]) == (16, [32, 32, 3])
        status, said = await refused(client.get_model_metadata("other"))
        assert status in ("404", "StatusCode.NOT_FOUND")
        assert "expected 'alexnet' version '1'" in said

    use(scenario)


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_those_of_the_network(use, pictures, expected, version, binary):
    async def scenario(library, client):
        found = await client.infer(
            "alexnet", [given(library, pictures, binary)], model_version=version,
            request_id="r1", parameters=PATIENT,
        )  # fmt: skip
        exits = found.as_numpy("exit")
        assert (exits.dtype, exits.shape) == (np.int32, (3,))
        assert found.as_numpy("confidence").dtype == np.float32
        labels = found.as_numpy("label")
        assert labels.dtype == np.int64
        for k, exit_ in enumerate(exits):
            assert labels[k] == expected(pictures[k : k + 1], int(exit_))[0]
        response = found.get_response()
        assert (response["id"] if library is http else response.id) == "r1"

    use(scenario)


def test_outputs_that_are_asked_for(use, pictures):
    async def scenario(library, client):
        wanted = [library.InferRequestedOutput("exit"), library.InferRequestedOutput("label")]
        found = await client.infer(
            "alexnet", [given(library, pictures)], outputs=wanted, parameters=PATIENT
        )
        assert found.as_numpy("confidence") is None
        assert found.as_numpy("exit").shape == (3,)
        if library is http:
            plain = [
                http.InferRequestedOutput(n, binary_data=n == "exit") for n in ("label", "exit")
            ]
            mixed = await client.infer(
                "alexnet", [given(library, pictures)], outputs=plain, parameters=PATIENT
            )
            assert np.array_equal(mixed.as_numpy("label"), found.as_numpy("label"))
        wrong = [library.InferRequestedOutput("logits")]
        status, said = await refused(
            client.infer("alexnet", [given(library, pictures)], outputs=wrong)
        )
        assert status in ("400", "StatusCode.INVALID_ARGUMENT")
        assert "found 'logits', expected label, confidence, exit" in said

    use(scenario)


def test_a_classification_by_class_count(use, pictures):
    async def scenario(library, client):
        wanted = [
            library.InferRequestedOutput("confidence", class_count=1),
            library.InferRequestedOutput("label"),
        ]
        found = await client.infer(
            "alexnet", [given(library, pictures)], outputs=wanted, parameters=PATIENT
        )
        named, labels = found.as_numpy("confidence"), found.as_numpy("label")
        assert named.shape == (3, 1)
        for k in range(3):
            value = named[k, 0]
            value, index, name = (value.decode() if isinstance(value, bytes) else value).split(":")
            assert int(index) == labels[k]
            assert 0.0 < float(value) <= 1.0
            assert name
        for name, count, why in (
            ("confidence", 3, "found 3, expected 1"), ("label", 1, "expected none"),
        ):  # fmt: skip
            wrong = [library.InferRequestedOutput(name, class_count=count)]
            status, said = await refused(
                client.infer("alexnet", [given(library, pictures)], outputs=wrong)
            )
            assert status in ("400", "StatusCode.INVALID_ARGUMENT")
            assert why in said

    use(scenario)


def test_jpeg_files_as_bytes_elements(use, pictures):
    stream = io.BytesIO()
    Image.fromarray(pictures[0]).resize((80, 60)).save(stream, "JPEG", quality=95)
    files = np.array([stream.getvalue()] * 2, dtype=np.object_)

    async def scenario(library, client):
        sent = library.InferInput("picture", [2], "BYTES")
        sent.set_data_from_numpy(files)
        found = await client.infer("alexnet", [sent], parameters=PATIENT)
        assert len(set(found.as_numpy("label").tolist())) == 1

    use(scenario)


@pytest.mark.parametrize("dtype", ["INT64", "FP32", "UINT16", "BOOL", "INT8", "FP64", "FP16"])
def test_other_datatypes_are_refused_by_name(use, dtype):
    from tritonclient.utils import triton_to_np_dtype

    async def scenario(library, client):
        zeros = np.zeros((1, 32, 32, 3), dtype=triton_to_np_dtype(dtype))
        sent = library.InferInput("picture", [1, 32, 32, 3], dtype)
        sent.set_data_from_numpy(zeros)
        status, said = await refused(client.infer("alexnet", [sent]))
        assert status in ("400", "StatusCode.INVALID_ARGUMENT")
        assert f"inputs[0].datatype: found {dtype}, expected UINT8 (N, H, W, 3)" in said

    use(scenario)


def test_times_that_cannot_be_kept_and_parameters_that_are_not_known(use, pictures):
    async def scenario(library, client):
        def ask(**options):
            return client.infer("alexnet", [given(library, pictures[:1])], **options)

        late = ("504", "StatusCode.DEADLINE_EXCEEDED")
        assert (await ask(timeout=5_000_000)).as_numpy("label").shape == (1,)
        wrong = ("400", "StatusCode.INVALID_ARGUMENT")
        for options, said in (
            ({"parameters": {"dedline_ms": 1}}, "parameters: found 'dedline_ms', expected"),
            ({"timeout": 1}, "timeout: found 1e-06 s, expected at least 0.003 s"),
            ({"parameters": {"deadline_ms": 1}}, "deadline_ms: found 0.001 s, expected at least"),
            ({"priority": 1}, "parameters: found 'priority', expected"),
            ({"sequence_id": 5, "sequence_start": True}, "parameters: found 'sequence_"),
            ({"request_id": "x" * 2000}, "id: found 2000 characters, expected at most 1024"),
        ):
            status, why = await refused(ask(**options))
            assert status in wrong
            assert said in why
        if library is http:
            assert (await refused(ask(query_params={"deadline_ms": 1})))[0] in wrong
            assert (await refused(ask(query_params={"foo": 1})))[0] in wrong
        else:
            assert (await refused(ask(client_timeout=1e-4)))[0] in late
            assert (await ask(client_timeout=10.0)).as_numpy("label").shape == (1,)

    use(scenario)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_compression(use, pictures, packing):
    async def scenario(library, client):
        options = (
            {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
            if library is http else {"compression_algorithm": packing}
        )  # fmt: skip
        found = await client.infer(
            "alexnet", [given(library, pictures)], parameters=PATIENT, **options
        )
        assert found.as_numpy("label").shape == (3,)

    use(scenario)


def test_what_only_triton_has_is_refused_and_nothing_else_breaks(use):
    async def scenario(library, client):
        status, _ = await refused(client.get_model_repository_index())
        assert status in ("404", "StatusCode.UNIMPLEMENTED")
        status, _ = await refused(client.get_inference_statistics())
        assert status in ("404", "StatusCode.UNIMPLEMENTED")
        assert await client.is_server_ready()

    use(scenario)


def test_many_at_once(use, pictures):
    async def scenario(library, client):
        async def ask():
            sent = [given(library, pictures[:1])]
            try:
                return (await client.infer("alexnet", sent, parameters=PATIENT)).as_numpy("exit")[0]
            except InferenceServerException as error:
                return text(error.status())

        found = await asyncio.gather(*(ask() for _ in range(60)))
        assert any(not isinstance(one, str) for one in found)
        assert {f for f in found if isinstance(f, str)} <= {"503", "StatusCode.UNAVAILABLE"}

    use(scenario)


def test_the_blocking_client_s_own_threads(daemon, pictures):
    """`async_infer`: callbacks over gRPC, greenlets over HTTP."""
    with grpc.InferenceServerClient(daemon.grpc) as client:
        done, found = threading.Event(), []

        def reported(result, error):
            found.append((result, error))
            done.set()

        client.async_infer("alexnet", [given(grpc, pictures)], reported, parameters=PATIENT)
        assert done.wait(20)
        result, error = found[0]
        assert error is None
        assert result.as_numpy("label").shape == (3,)
    with http.InferenceServerClient(daemon.address[7:], concurrency=2) as client:
        asked = [
            client.async_infer("alexnet", [given(http, pictures)], parameters=PATIENT)
            for _ in range(2)
        ]
        assert all(one.get_result().as_numpy("label").shape == (3,) for one in asked)
