"""The process that speaks gRPC: it ends with the daemon, and is begun anew when it ends."""

import asyncio
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from controller.daemon.configuration.settings import GrpcSettings, LimitSettings
from controller.daemon.inference.served import ServedModel
from controller.daemon.service import FrameService
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.link.interface import NoLink
from controller.planners.fixed import FixedController
from experiments.robustness.attacks.memory import descendants
from models.data.pictures import generated_pictures
from models.executors.onnx import OnnxExecutor

grpc = pytest.importorskip("grpc", reason="grpcio is not installed (extra grpc)")
messages = pytest.importorskip("controller.daemon.grpc.messages", reason="no protobuf")

process = pytest.importorskip("controller.daemon.grpc.process")

SERVICE = "/inference.GRPCInferenceService/"
DAEMON = "[grpc]\nport = 0\n"


def ready(address):
    """Asked until somebody listens."""
    with grpc.insecure_channel(address) as channel:
        reply = channel.unary_unary(SERVICE + "ServerReady")(b"", timeout=20, wait_for_ready=True)
    return messages.read("ServerReadyResponse", reply).ready


def there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def metric(daemon, name):
    with urllib.request.urlopen(daemon.address + "/metrics", timeout=20) as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1])


def test_it_ends_with_a_daemon_that_is_killed(running):
    with running(DAEMON) as daemon:
        (child,) = descendants(daemon.process.pid)
        assert there(child)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(20)
        daemon.until(lambda: not there(child), 10.0)


def test_one_that_is_killed_is_begun_anew_where_it_was(running):
    with running(DAEMON) as daemon:
        (child,) = descendants(daemon.process.pid)
        assert metric(daemon, "coinfer_grpc_up") == 1
        assert metric(daemon, "coinfer_grpc_restarts_total") == 0
        os.kill(child, signal.SIGKILL)
        daemon.until(lambda: metric(daemon, "coinfer_grpc_restarts_total") == 1)
        assert ready(daemon.grpc)
        daemon.until(lambda: metric(daemon, "coinfer_grpc_up") == 1)
        lines = [line for line in daemon.said().splitlines() if "WARNING" in line]
        assert len(lines) == 1
        assert "gRPC: it has ended (code -9); its process is begun anew" in lines[0]
        assert daemon.stop() == 0


def test_a_service_manager_s_signals_reach_both_and_the_daemon_alone_ends_it(running):
    with running(DAEMON) as daemon:
        (child,) = descendants(daemon.process.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(child, number)
        assert ready(daemon.grpc)
        assert descendants(daemon.process.pid) == [child]
        assert daemon.stop() == 0
        assert not there(child)
        assert "WARNING" not in daemon.said()


def test_the_library_is_loaded_there_alone(running):
    with running(DAEMON) as daemon:
        (child,) = descendants(daemon.process.pid)
        loaded = [
            "cygrpc" in Path(f"/proc/{p}/maps").read_text() for p in (daemon.process.pid, child)
        ]
        assert loaded == [False, True]


def test_it_gives_way_to_the_daemon(running):
    with running(DAEMON) as daemon:
        (child,) = descendants(daemon.process.pid)
        own, its = (os.getpriority(os.PRIO_PROCESS, p) for p in (daemon.process.pid, child))
        assert its == min(own + 10, 19)
        assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) == 800
        group = Path(f"/proc/{child}/autogroup")
        if group.exists():
            assert group.read_text().split()[-1] == "10"


def test_a_changed_limit_reaches_it(running):
    with running(DAEMON) as daemon, grpc.insecure_channel(daemon.grpc) as channel:
        daemon.write(DAEMON + "[limits]\nbody_s = 0.3\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until(lambda: "reloaded" in daemon.said())
        ended = threading.Event()

        def silent():
            ended.wait(20)
            yield b""

        def said():
            with pytest.raises(grpc.RpcError) as error:
                channel.stream_unary(SERVICE + "ModelInfer")(silent(), timeout=1.0)
            return error.value.details()

        daemon.until(lambda: "found it not whole after 0.3 s" in said())
        ended.set()


# -- the daemon's side, in this process ------------------------------------------------------------


@pytest.fixture
def served(stream):
    """A model whose engine answers nothing: what is asked stays under way."""
    plan = next(k for k, local in enumerate(stream.table.local) if local)
    engine = FrameEngine(
        stream.model, OnnxExecutor(stream.model), stream.device, stream.table,
        FixedController(plan, ""), NoLink(), EngineArgs(5.0, always_rescue=True),
    )  # fmt: skip
    service = FrameService(engine, 16)
    yield ServedModel(service, LimitSettings(), "0", stream.model.card.classes)
    service.close()


async def until(true, seconds=20.0):
    """Wait for another process: nothing here hears when it is there."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def serving(served, work, port=0):
    """Run `work(service, address)` beside a gRPC process of its own."""

    async def run():
        service = process.GrpcService(served, GrpcSettings(port))
        async with service.serving() as where:
            await work(service, where.removeprefix("grpc://"))

    asyncio.run(run())


def test_one_that_takes_too_much_memory_is_begun_anew(served, monkeypatch, caplog):
    async def work(service, address):
        assert await asyncio.to_thread(ready, address) is False  # the engine was never begun
        monkeypatch.setattr(process, "memory_bound", lambda limits: 1 << 20)
        await until(lambda: service.restarts)
        monkeypatch.undo()
        await until(lambda: service.up)
        assert await asyncio.to_thread(ready, address) is False

    with caplog.at_level("WARNING", "coinfer.device"):
        serving(served, work)
    assert re.search(r"gRPC: it took \d+ MiB, expected at most 1;", caplog.text)


def gateway():
    """The gateway's process; this one may have other children."""
    (found,) = (
        pid for pid in descendants(os.getpid())
        if b"controller.daemon.grpc" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )  # fmt: skip
    return found


def test_one_that_hangs_is_begun_anew(served, monkeypatch, caplog):
    async def work(service, address):
        monkeypatch.setattr(process, "HANG_S", 1.5)
        child = gateway()
        os.kill(child, signal.SIGSTOP)
        await until(lambda: service.restarts)
        await until(lambda: service.up)
        assert not there(child)

    with caplog.at_level("WARNING", "coinfer.device"):
        serving(served, work)
    assert "gRPC: it has not been heard of for 1.5 s;" in caplog.text


def test_one_that_cannot_listen_again_is_tried_again_and_said_to_be_down(served, caplog):
    async def work(service, address):
        host, port = address.split(":")
        child = gateway()
        os.kill(child, signal.SIGKILL)
        await until(lambda: not service.up)
        with socket.create_server((host, int(port))):
            await until(lambda: service.restarts > 1)
            assert dict(service.figures()[1])["coinfer_grpc_up"][1]() == 0.0
        await until(lambda: service.up)

    with caplog.at_level("WARNING", "coinfer.device"):
        serving(served, work)
    assert "cannot listen on 127.0.0.1:" in caplog.text


def test_a_call_whose_client_goes_away_is_given_up(served):
    picture = generated_pictures(1, np.random.default_rng(0))
    request = messages.make(
        "ModelInferRequest",
        model_name=served.name,
        inputs=[{"name": "picture", "datatype": "UINT8", "shape": [1, 32, 32, 3]}],
        raw_input_contents=[picture.tobytes()],
        parameters={"deadline_ms": {"int64_param": 50_000}},
    )

    async def work(service, address):
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(SERVICE + "ModelInfer")(request, timeout=30)
            await until(lambda: served.bytes.held > 3000)
            call.cancel()
            await until(lambda: served.bytes.held == 0)

    serving(served, work)
