"""The interface over gRPC: messages, status codes, bounds, its end; real daemons and channels."""

import concurrent.futures
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.robustness.attacks.grpc import Http2
from experiments.robustness.attacks.memory import descendants, peak_bytes
from models.data.pictures import generated_pictures

grpc = pytest.importorskip("grpc", reason="grpcio is not installed (extra grpc)")
messages = pytest.importorskip("controller.daemon.grpc.messages", reason="no protobuf")

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def daemon(running_module):
    with running_module("[grpc]\nport = 0\n[limits]\nlongest_deadline_s = 10.0\n") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(daemon):
    with grpc.insecure_channel(daemon.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def picture():
    return generated_pictures(1, np.random.default_rng(0))


def new(name, /, **fields):
    return messages.message_class(name)(**fields)


def call(channel, name, request=b"", timeout=20.0, **options):
    """One call; its reply as a message."""
    sent = request if isinstance(request, bytes) else request.SerializeToString()
    made = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")(
        sent, timeout=timeout, **options
    )
    return messages.read(f"{name}Response", made)


def refused(channel, name, request=b"", **options):
    with pytest.raises(grpc.RpcError) as error:
        call(channel, name, request, **options)
    assert "\n" not in error.value.details()
    return error.value.code(), error.value.details()


def infer(picture, **more):
    given = {"name": "picture", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
    fields = {
        "model_name": "alexnet", "inputs": [given], "raw_input_contents": [picture.tobytes()],
        "parameters": {"deadline_ms": {"int64_param": 5000}},
    }  # fmt: skip
    return new("ModelInferRequest", **fields | more)


def test_health_and_metadata(channel):
    assert call(channel, "ServerLive").live
    assert call(channel, "ServerReady").ready
    server = call(channel, "ServerMetadata")
    assert (server.name, next(iter(server.extensions))) == ("coinfer", "binary_tensor_data")
    for version in ("", "1"):
        asked = new("ModelReadyRequest", name="alexnet", version=version)
        assert call(channel, "ModelReady", asked).ready
        model = call(channel, "ModelMetadata", new("ModelMetadataRequest", name="alexnet"))
        assert list(model.inputs[0].shape) == [-1, 32, 32, 3]
        assert [o.name for o in model.outputs] == ["label", "confidence", "exit"]


def test_an_answer_is_the_same_raw_and_typed_and_as_over_http(channel, daemon, picture):
    from coinfer import Client

    with Client(daemon.address) as client:
        expected = client.infer(picture[0], deadline_s=5.0)
    raw = call(channel, "ModelInfer", infer(picture, id="żółw"))
    assert (raw.id, raw.model_name, raw.model_version) == ("żółw", "alexnet", "1")
    label, confidence, exit_ = raw.raw_output_contents
    assert struct.unpack("<q", label)[0] == expected.label
    typed = infer(picture, raw_input_contents=[])
    typed.inputs[0].contents.uint_contents.extend(picture.ravel().tolist())
    found = call(channel, "ModelInfer", typed)
    assert not found.raw_output_contents
    assert found.id == ""
    by_name = {o.name: o.contents for o in found.outputs}
    assert by_name["label"].int64_contents[0] == expected.label
    assert by_name["exit"].int_contents[0] == struct.unpack("<i", exit_)[0]
    assert 0.0 < by_name["confidence"].fp32_contents[0] <= 1.0
    assert len(confidence) == 4
    assert found.parameters["where"].string_param == "device"
    assert found.parameters["latency_ms"].double_param > 0.0
    wanted = [{"name": "confidence", "parameters": {"classification": {"int64_param": 1}}}]
    named = call(channel, "ModelInfer", infer(picture, outputs=wanted))
    (length,) = struct.unpack_from("<I", named.raw_output_contents[0])
    assert named.raw_output_contents[0][4:].decode().split(":")[1] == str(expected.label)
    assert length == len(named.raw_output_contents[0]) - 4


def test_refusals_have_the_codes_of_their_kinds(channel, picture):
    code, said = refused(channel, "ModelInfer", infer(picture, model_name="other"))
    assert (code, "expected 'alexnet' version '1'" in said) == (CODE.NOT_FOUND, True)
    for name in ("ModelReady", "ModelMetadata"):
        asked = new(f"{name}Request", name="alexnet", version="2")
        assert refused(channel, name, asked)[0] == CODE.NOT_FOUND
    for wrong in (infer(picture, inputs=[]), infer(picture, id="x" * 1025), b"\xff\xff"):
        assert refused(channel, "ModelInfer", wrong)[0] == CODE.INVALID_ARGUMENT
    for short in ({"deadline_ms": {"double_param": 0.001}}, {"timeout": {"int64_param": 1}}):
        code, said = refused(channel, "ModelInfer", infer(picture, parameters=short))
        assert (code, "expected at least 0.003 s" in said) == (CODE.INVALID_ARGUMENT, True)
    assert refused(channel, "ModelConfig")[0] == CODE.UNIMPLEMENTED
    large = infer(picture, raw_input_contents=[bytes(9_000_000)])
    assert refused(channel, "ModelInfer", large)[0] == CODE.RESOURCE_EXHAUSTED


def test_the_call_s_own_deadline_counts_too(channel, picture):
    """A call that has less time than its parameters ask for is not computed longer than it has."""
    slow = infer(picture, parameters={"deadline_ms": {"int64_param": 9000}})
    assert refused(channel, "ModelInfer", slow, timeout=1e-4)[0] == CODE.DEADLINE_EXCEEDED
    assert call(channel, "ModelInfer", slow, timeout=5.0).outputs
    assert call(channel, "ModelInfer", slow, timeout=1e6).outputs, "a patient client is no mistake"


def test_messages_packed_by_the_library_are_taken_within_the_same_bounds(channel, picture):
    for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert call(channel, "ModelInfer", infer(picture), compression=packing).outputs
        bomb = infer(picture, raw_input_contents=[bytes(60_000_000)])
        code, _ = refused(channel, "ModelInfer", bomb, compression=packing)
        assert code == CODE.RESOURCE_EXHAUSTED


def test_many_at_once_are_answered_and_too_many_are_unavailable(running, picture):
    with running("[grpc]\nport = 0\n[limits]\nlive_frames = 2\n") as daemon:
        with grpc.insecure_channel(daemon.grpc) as channel:

            def ask(_):
                try:
                    return call(channel, "ModelInfer", infer(picture)).outputs[0].name
                except grpc.RpcError as error:
                    return error.code()

            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                found = list(pool.map(ask, range(200)))
            assert set(found) <= {"label", CODE.UNAVAILABLE}
            assert "label" in found
            assert call(channel, "ServerReady").ready


def test_a_body_that_does_not_come_is_given_up(running):
    """A stream that is begun and then silent, and one of two messages."""
    with running("[grpc]\nport = 0\n[limits]\nbody_s = 0.3\n") as daemon:
        with grpc.insecure_channel(daemon.grpc) as channel:
            stream = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            ended = threading.Event()

            def silent():
                ended.wait(20)
                yield b""

            with pytest.raises(grpc.RpcError) as error:
                stream(silent(), timeout=20)
            ended.set()
            assert error.value.code() == CODE.DEADLINE_EXCEEDED
            assert "found it not whole after 0.3 s" in error.value.details()
            with pytest.raises(grpc.RpcError) as error:
                stream(iter([b"", b""]), timeout=20)
            assert error.value.code() == CODE.INVALID_ARGUMENT
            assert "second message" in error.value.details()


def test_calls_that_send_nothing_give_way_to_those_that_do(running, picture):
    """More silent streams than messages may come in at once, and a camera among them."""
    with running("[grpc]\nport = 0\n[limits]\nbodies_bytes = 8388608\n") as daemon:
        with grpc.insecure_channel(daemon.grpc) as channel:
            stream = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            ended = threading.Event()

            def silent():
                ended.wait(20)
                yield b""

            others = [stream.future(silent(), timeout=20) for _ in range(3)]
            begun = time.monotonic()
            for _ in range(5):
                assert call(channel, "ModelInfer", infer(picture)).outputs
            assert time.monotonic() - begun < 5.0
            with pytest.raises(grpc.RpcError) as error:
                others[0].result()
            assert error.value.code() == CODE.UNAVAILABLE
            assert "has been coming in longest" in error.value.details()
            ended.set()


@pytest.mark.parametrize("method", ["ServerLive", "ModelMetadata", "ModelInfer"])
def test_messages_that_never_end_take_little_memory_whatever_the_call_is(running, method):
    """Eight connections, 16 calls on each, eight megabytes to each: a gigabyte that is not held."""
    with running("[grpc]\nport = 0\n") as daemon:
        before = resident(daemon)
        ended = threading.Event()

        def push():
            while not ended.is_set():
                with contextlib.suppress(OSError), contextlib.closing(Http2(where)) as one:
                    while not ended.is_set():
                        while len(one.streams) < 16:
                            one.call(method)
                        one.push()

        host, port = daemon.grpc.split(":")
        where = (host, int(port))
        pushing = [threading.Thread(target=push) for _ in range(8)]
        for thread in pushing:
            thread.start()
        try:
            with grpc.insecure_channel(daemon.grpc) as channel:
                until, served = time.monotonic() + 5.0, 0
                while time.monotonic() < until or not served:
                    with contextlib.suppress(grpc.RpcError):
                        served += call(channel, "ServerReady", timeout=5).ready
                    assert time.monotonic() < until + 60.0, "nobody else is served"
        finally:
            ended.set()
            for thread in pushing:
                thread.join(20)
        assert resident(daemon) - before < 200 << 20
        assert "Traceback" not in daemon.said()
        assert "begun anew" not in daemon.said()


def resident(daemon):
    """The most memory that a daemon and its gRPC process have taken, in bytes."""
    pid = daemon.process.pid
    return sum(map(peak_bytes, [pid, *descendants(pid)]))


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ModelReady", "ModelMetadata"])
def test_what_asks_for_health_or_metadata_is_short(running, method):
    with running("[grpc]\nport = 0\n") as daemon, grpc.insecure_channel(daemon.grpc) as channel:
        ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        with pytest.raises(grpc.RpcError) as error:
            ask(bytes(5000), timeout=20)
        assert error.value.code() == CODE.RESOURCE_EXHAUSTED
        assert "found 5,000 bytes, expected 4,096" in error.value.details()


def test_connections_are_bounded_and_silent_ones_end(running, picture):
    """Silent ones in all places: who is there goes on, and others come in when those have ended."""
    more = "[grpc]\nport = 0\n[limits]\nconnections = 8\nhead_s = 1.0\n"
    with running(more) as daemon, grpc.insecure_channel(daemon.grpc) as channel:
        assert call(channel, "ModelInfer", infer(picture)).outputs
        host, port = daemon.grpc.split(":")
        silent = [socket.create_connection((host, int(port)), 10) for _ in range(40)]
        try:
            for _ in range(5):
                begun = time.monotonic()
                assert call(channel, "ModelInfer", infer(picture)).outputs
                assert time.monotonic() - begun < 2.0
            for pid in (daemon.process.pid, *descendants(daemon.process.pid)):
                assert len(os.listdir(f"/proc/{pid}/fd")) < 60
            with grpc.insecure_channel(daemon.grpc) as another:
                assert call(another, "ServerReady", wait_for_ready=True).ready
            for one in silent:
                one.settimeout(20)
                while one.recv(4096):  # the library's own greeting, then the end
                    pass
        finally:
            for one in silent:
                one.close()


def test_a_client_that_pings_without_end_is_hung_up(running):
    """HTTP/2 by hand (RFC 9113): the preface, empty settings, then pings until a GOAWAY comes."""
    go_away, calm = 0x07, 0x0B
    with running("[grpc]\nport = 0\n") as daemon:
        host, port = daemon.grpc.split(":")
        with socket.create_connection((host, int(port)), 20) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            client.sendall((bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"12345678") * 20)
            heard = b""
            while part := client.recv(4096):
                heard += part
            kinds = []
            while heard:
                length = int.from_bytes(heard[:3], "big")
                kinds.append((heard[3], heard[9 : 9 + length]))
                heard = heard[9 + length :]
        assert kinds[-1][0] == go_away
        assert int.from_bytes(kinds[-1][1][4:8], "big") == calm
        with grpc.insecure_channel(daemon.grpc) as channel:
            assert call(channel, "ServerReady").ready


def test_it_drains_and_says_so(running, picture):
    with running("[grpc]\nport = 0\n") as daemon, grpc.insecure_channel(daemon.grpc) as channel:
        stop, found = threading.Event(), []

        def ask():
            while not stop.is_set():
                try:
                    found.append(bool(call(channel, "ModelInfer", infer(picture)).outputs))
                except grpc.RpcError as error:
                    found.append(error.code())
                    return

        asking = threading.Thread(target=ask)
        asking.start()
        daemon.until(lambda: len(found) > 3)
        assert daemon.stop() == 0
        stop.set()
        asking.join(30)
        assert set(found) - {True} <= {CODE.UNAVAILABLE, CODE.CANCELLED}
        assert "Traceback" not in daemon.said()


def device(tmp_path, text, code):
    (tmp_path / "device.toml").write_text('format_version = 1\nscenario = "3g-alexnet"\n' + text)
    return subprocess.run(
        [sys.executable, "-c", code, "device", "--config", "device.toml"],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False, env=os.environ,
    )  # fmt: skip


COMMAND = "import sys; from coinfer.cli.main import run; sys.exit(run())"
WITHOUT = "import sys; sys.modules['grpc'] = None; " + COMMAND.removeprefix("import sys; ")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[grpc]\nport = 0\n", WITHOUT, "found no gRPC, expected grpcio and protobuf (pip install"),
        ('[grpc]\nport = 0\nhost = "0.0.0.0"\n', COMMAND, "0.0.0.0, expected loopback"),
        ("[grpc]\nport = 70000\n", COMMAND, "field 'grpc.port': found 70000, expected 0 to 65535"),
        ("[grpc]\n", COMMAND, "port"),
        ("[grpc]\nport = {taken}\n", COMMAND, "grpc.host, grpc.port: cannot listen on 127.0.0.1:"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_and_code_2(tmp_path, text, code, said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = device(
            tmp_path, "[http]\nport = 0\n" + text.format(taken=taken.getsockname()[1]), code
        )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert [line for line in done.stderr.splitlines() if "INFO" not in line][1:] == [], done.stderr


def test_a_daemon_without_it_never_loads_it(running):
    code = (
        "import sys, controller.daemon.main, coinfer; "
        "heavy = {'grpc', 'google.protobuf'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with running() as daemon:
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert daemon.grpc is None
        assert "cygrpc" not in maps
        assert "upb" not in maps


def test_our_pool_and_another_library_s_live_in_one_process():
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    code = (
        "from controller.daemon.grpc import messages as m; m.message_class('ModelInferRequest'); "
        "import tritonclient.grpc; m.make('ServerLiveResponse', live=True)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
