"""The local interface as one thing to serve: where it listens, that it answers, that it ends."""

import asyncio
import contextlib
import json
import socket
import urllib.request

import numpy as np
import pytest

from artefacts import UsageError
from controller.daemon.configuration.settings import (
    NO_PORT,
    GrpcSettings,
    HttpSettings,
    LimitSettings,
)
from controller.daemon.inference.served import ServedModel
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.service import FrameService
from controller.daemon.serving import LocalService
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.link.interface import NoLink
from controller.planners.fixed import FixedController, device_only_plan
from models.executors import OnnxExecutor


@pytest.fixture(scope="module")
def served(stream):
    controller = FixedController("device-only", device_only_plan(stream))
    engine = FrameEngine(
        stream.model, OnnxExecutor(stream.model), stream.device, stream.table, controller,
        NoLink(), EngineArgs(5.0, always_rescue=True),
    )  # fmt: skip
    service = FrameService(engine, 4)
    service.start()
    yield ServedModel(service, LimitSettings(), "1.2.3", ())
    service.close()


@pytest.fixture
def local(served):
    """Makes a service on these settings."""

    def made(http, grpc=None):
        return LocalService(served, DeviceMetrics(served.service.engine, lambda: 0), http, grpc)

    return made


def serve(local, do):
    """Serve for as long as `do` takes with where it listens, on another thread."""

    async def main():
        async with local.serving() as where:
            return await asyncio.to_thread(do, where)

    return asyncio.run(main())


def test_frames_are_answered_where_it_says_that_it_listens(local, served):
    height, width = served.signature.size
    picture = np.zeros((1, height, width, 3), dtype=np.uint8)
    body = {
        "inputs": [{"name": "picture", "datatype": "UINT8", "shape": list(picture.shape),
                    "data": picture.ravel().tolist()}]
    }  # fmt: skip

    def ask(where):
        (address,) = where
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/v2", timeout=20) as answer:
            about = json.load(answer)
        request = urllib.request.Request(
            f"{address}/v2/models/{served.name}/infer", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=20) as answer:
            return about, json.load(answer)

    about, found = serve(local(HttpSettings(port=0)), ask)
    assert about["version"] == "1.2.3"
    assert found["model_name"] == served.name


def test_a_socket_in_the_file_system_serves_alone_and_goes_at_the_end(local, tmp_path):
    path = tmp_path / "run" / "device.sock"
    made = local(HttpSettings(port=NO_PORT, socket=str(path)))

    def ask(where):
        assert where == [f"unix:{path}"]
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv(100)

    assert serve(made, ask).startswith(b"HTTP/1.1 200")
    made.remove_socket()
    assert not path.exists()


def test_a_socket_that_another_daemon_made_meanwhile_stays(local, tmp_path):
    path = tmp_path / "device.sock"
    one, other = (local(HttpSettings(port=NO_PORT, socket=str(path))) for _ in range(2))
    serve(one, lambda where: None)
    serve(other, lambda where: one.remove_socket())
    assert path.exists()
    other.remove_socket()
    assert not path.exists()


def test_a_port_that_is_taken_is_one_line(local):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"http\.port: cannot listen on 127\.0\.0\.1:{port}"):
            serve(local(HttpSettings(port=port)), lambda where: None)


def test_once_the_block_ends_nobody_listens(local):
    (address,) = serve(local(HttpSettings(port=0)), lambda where: where)
    host, port = address.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)


@pytest.mark.parametrize("seen", [True, False])
def test_silent_clients_are_hung_up_at_the_end_however_far_they_came(local, seen):
    """Those that are served, and those that were on their way in."""

    def connect(where):
        host, port = where[0].removeprefix("http://").split(":")
        made = [socket.create_connection((host, int(port)), 5) for _ in range(20)]
        for client in made if seen else ():
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /in")
            client.settimeout(20)
            assert client.recv(12) == b"HTTP/1.1 200"
        return made

    for client in serve(local(HttpSettings(port=0)), connect):
        with client, contextlib.suppress(ConnectionResetError):
            client.settimeout(20)
            while client.recv(1000):  # whatever it says, it hangs up
                pass


def test_grpc_is_served_beside_it_where_it_is_asked_for(local, served):
    grpc = pytest.importorskip("grpc", reason="grpcio: found none, expected the extra 'grpc'")

    def ask(where):
        http, other = where
        assert http.startswith("http://")
        with grpc.insecure_channel(other.removeprefix("grpc://")) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            return call(b"", timeout=20)

    assert serve(local(HttpSettings(port=0), GrpcSettings(port=0)), ask) == b"\x08\x01"
