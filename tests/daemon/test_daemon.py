"""The daemon as a user runs it: a process of its own, existing clients, signals, bad input."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from coinfer import AsyncClient, Client, DeviceError, UsageError
from controller.edge.server import EdgeServer
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor


@pytest.fixture(scope="module")
def pictures():
    return generated_pictures(12, np.random.default_rng(0))


@pytest.fixture(scope="module")
def edge(stream):
    server = EdgeServer(stream.model, OnnxExecutor(stream.model))
    server.start()
    yield server
    server.close()


def get(address, path):
    host, port = address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def post(address, path, headers, body):
    host, port = address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def labels(stream, pictures, exit_):
    executor = OnnxExecutor(stream.model)
    stop = len(stream.spec.branches[exit_])
    return executor.run(exit_, 0, stop, stream.model.normalise(pictures)).argmax(axis=1)


def test_tritons_own_client_works_unchanged(running, stream, pictures, edge):
    triton = pytest.importorskip("tritonclient.http")
    with running(f'edges = ["127.0.0.1:{edge.port}"]') as daemon:
        client = triton.InferenceServerClient(daemon.address.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("alexnet")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "coinfer"
        shape = client.get_model_metadata("alexnet")["inputs"][0]["shape"]
        assert shape == [-1, 32, 32, 3]
        for binary in (True, False):
            given = triton.InferInput("picture", [1, 32, 32, 3], "UINT8")
            given.set_data_from_numpy(pictures[:1], binary_data=binary)
            wanted = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("label", "exit")]
            found = client.infer(
                "alexnet", [given], outputs=wanted, request_id="r1",
                parameters={"deadline_ms": 5000.0},
            )  # fmt: skip
            exit_ = int(found.as_numpy("exit")[0]) - 1
            assert found.as_numpy("label")[0] == labels(stream, pictures[:1], exit_)[0]
            assert found.get_response()["id"] == "r1"
            assert found.get_response()["parameters"]["where"] in ("device", "edge")
        given = triton.InferInput("picture", [1, 32, 32, 3], "UINT8")
        given.set_data_from_numpy(pictures[:1])
        plain = client.infer("alexnet", [given], request_compression_algorithm="gzip")
        assert plain.as_numpy("confidence").dtype == np.float32
        client.close()


def test_both_clients_over_tcp_and_unix_and_many_at_once(running, stream, pictures):
    with running() as daemon:
        expected = labels(stream, pictures, 0)
        for address in (daemon.address, daemon.unix):
            with Client(address) as client:
                found = client.infer(pictures[0], deadline_s=5.0, threshold=1e-6)
            assert found.where == "device"
            assert 0.0 < found.confidence <= 1.0

            async def many(address=address):
                async with AsyncClient(address) as client:
                    asked = [client.infer(p, deadline_s=10.0) for p in pictures]
                    return await asyncio.gather(*asked)

            answers = asyncio.run(many())
            by_exit = {a.exit for a in answers}
            assert [a.label for a in answers] == [
                labels(stream, pictures[k : k + 1], a.exit - 1)[0] for k, a in enumerate(answers)
            ]
            assert by_exit
            names = stream.model.card.classes
            assert [a.class_name for a in answers] == [names[a.label] for a in answers]
        assert len(expected) == len(pictures)
        stream_ = io.BytesIO()
        Image.fromarray(pictures[0]).resize((64, 48)).save(stream_, "JPEG", quality=95)
        with Client(daemon.address) as client:
            found = client.infer(stream_.getvalue(), deadline_s=5.0)
            assert found.exit >= 1
            assert found.class_name == stream.model.card.classes[found.label]
        status, text = get(daemon.address, "/metrics")
        assert status == 200
        assert b"coinfer_frames_total{" in text
        status, page = get(daemon.address, "/live")
        assert b"<canvas" in page
        seen = subprocess.run(
            [sys.executable, "-m", "coinfer.cli.main", "top", daemon.unix, "--once"],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        assert "alexnet, robust, deadline 88 ms; no edge" in seen
        assert "exits        1: " in seen
        state = json.loads(get(daemon.address, "/live/state")[1])
        assert state["frames"] == 2 * (1 + len(pictures)) + 1
        assert sum(s["frames"] for s in state["seconds"]) == state["frames"]
        assert state["policy_fallback_share"] in (None, 0.0)


def test_what_cannot_be_answered_is_one_line(running, pictures):
    with running("[limits]\nbody_bytes = 20000\nlongest_deadline_s = 2.0") as daemon:
        with Client(daemon.address) as client:
            for wrong, said in (
                (b"no jpeg", "found no JPEG"),
                (np.zeros((8, 8, 3), np.uint8), r"expected \(N, 32, 32, 3\)"),
                (b"\xff" * 30_000, "more than 20,000 bytes"),
            ):
                with pytest.raises(DeviceError, match=said):
                    client.infer(wrong)
            with pytest.raises(DeviceError, match="found 'tokens', expected 'picture'"):
                client.infer("no picture")
            with pytest.raises(UsageError, match="sample: found NoneType"):
                client.infer(None)
            with pytest.raises(DeviceError, match="threshold: found 2, expected at most 1"):
                client.infer(pictures[0], threshold=2.0)
            with pytest.raises(DeviceError, match="at most 2 s"):
                client.infer(pictures[0], deadline_s=3.0)
            with pytest.raises(DeviceError, match="expected at least 0.003 s") as short:
                client.infer(pictures[0], deadline_s=1e-5)
            assert short.value.status == 400
            assert client.infer(pictures[0], deadline_s=2.0).exit >= 1
        status, body = get(daemon.address, "/v2/models/other")
        assert (status, b"expected 'alexnet'" in body) == (404, True)
        assert get(daemon.address, "/nothing")[0] == 404
        for path, headers, body in (
            ("/infer?deadline_s=1", {"Content-Type": "image/jpeg"}, b"x"),
            ("/infer", {"Content-Encoding": "gzip"}, b"no gzip"),
            ("/v2/models/a%0d%0aX:y/infer", {}, b"{}"),
        ):
            status, body = post(daemon.address, path, headers, body)
            assert status in (400, 404), body
            assert set(json.loads(body)) == {"error"}
        assert "Traceback" not in daemon.said()


def test_it_reloads_while_frames_run_and_a_mistake_changes_nothing(running, pictures):
    with running('controller = "algorithm1-online"') as daemon:

        def controller():
            return json.loads(get(daemon.address, "/live/state")[1])["controller"]

        def ask(stop):
            answered = 0
            with Client(daemon.address) as client:
                while not stop.is_set():
                    assert client.infer(pictures[answered % 12], deadline_s=5.0).exit >= 1
                    answered += 1
            return answered

        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(ask, stop) for _ in range(2)]
            assert controller() == "algorithm1-online"
            daemon.write('controller = "device-only"')
            daemon.process.send_signal(signal.SIGHUP)
            daemon.until(lambda: controller() == "device-only")
            daemon.write('controller = "nobody"')
            daemon.process.send_signal(signal.SIGHUP)
            daemon.until(lambda: "controller: found 'nobody'" in daemon.said())
            assert controller() == "device-only"
            # the file's change is enough, without a signal
            daemon.write('controller = "learned"\nexecutor = "onnx-int8"')
            daemon.until(lambda: controller() == "learned")
            assert "a restart is needed for executor" in daemon.said()
            prices = "[prices]\ndevice_second = 0.5\nmegabyte = 3"
            daemon.write(f'controller = "robust"\n{prices}')
            daemon.until(lambda: controller() == "robust")
            daemon.write(f'controller = "learned"\n{prices}')
            daemon.until(lambda: "policy.json, field 'prices': found those of 0" in daemon.said())
            assert controller() == "robust"
            daemon.write(f'controller = "robust"\n{prices.replace("3", "-3")}')
            daemon.until(lambda: "prices, megabyte: found -3, expected 0" in daemon.said())
            stop.set()
            assert all(a.result(timeout=30) > 0 for a in asked)


def test_it_drains_counts_and_keeps_its_counters(running, tmp_path, pictures):
    state = tmp_path / "state.json"
    for run in (1, 2):
        with running(f'state = "{state}"') as daemon, Client(daemon.address) as client:
            client.infer(pictures[0], deadline_s=5.0)
            assert daemon.stop() == 0
            assert "stopping" in daemon.said()
        kept = json.loads(state.read_text())
        assert (kept["starts"], kept["frames"]) == (run, run)
        (tmp_path / "ready").unlink()
    state.write_text("{ torn")
    with running(f'state = "{state}"') as daemon:
        assert "counters begin anew" in daemon.said()


def test_half_a_request_does_not_hold_up_the_end_and_nobody_s_file_is_taken(running, tmp_path):
    with running(f'state = "{tmp_path}/state.json"') as daemon:
        host, port = daemon.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as half:
            half.sendall(
                b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\nabc"
            )
            assert daemon.stop() == 0
        assert (tmp_path / "state.json").exists()
        assert not (tmp_path / "device.sock").exists()
    (tmp_path / "ready").unlink()
    (tmp_path / "device.sock").write_text("precious")
    with pytest.raises(AssertionError, match="which is no socket"):
        with running():
            pass
    assert (tmp_path / "device.sock").read_text() == "precious"


def test_systemd_hears_that_it_is_ready_alive_and_stopping(running, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(30)
        with running(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000") as daemon:
            assert [sock.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
            daemon.process.send_signal(signal.SIGHUP)
            heard = [sock.recv(100) for _ in range(4)]
            assert any(m.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for m in heard)
            assert b"READY=1" in heard
            daemon.stop()
            heard = []
            while b"STOPPING=1" not in heard:
                heard.append(sock.recv(100))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('format_version = 1\nscenario = "nowhere"\n', "nowhere"),
        ('format_version = 1\nscenario = "edgent"\n', "found a closed loop"),
        ('format_version = 1\nscenario = "3g-alexnet"\ncontroller = "map"\n', "map: found none"),
        ('format_version = 1\nscenario = "3g-alexnet"\npolicy = "gone"\n', "gone"),
        ('format_version = 1\nscenario = "3g-alexnet"\nfps = 3\n', "fps"),
        ('format_version = 1\nscenario = "3g-alexnet"\n[http]\nhost = "0.0.0.0"\n', "0.0.0.0"),
        (
            'format_version = 1\nscenario = "3g-alexnet"\nedges = ["127.0.0.1:1"]\n[tls]\n'
            'token = "t"\n',
            "tls.authority: found none",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_and_code_2(forked, tmp_path, text, said):
    (tmp_path / "device.toml").write_text(text)
    done = forked("coinfer.cli.main", "device", "--config", "device.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_the_daemon_imports_nothing_a_pi_lacks():
    code = (
        "import sys, controller.daemon.main, coinfer; "
        "heavy = {'torch', 'gymnasium', 'stable_baselines3', 'pandas', 'matplotlib', 'river', "
        "'envs', 'experiments', 'onnx'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_bodies_are_bounded_together_and_in_time(running):
    """Two clients that send most of a picture and stop: the first gives way, the other is slow."""

    def begun(daemon):
        host, port = daemon.address.removeprefix("http://").split(":")
        sock = socket.create_connection((host, int(port)), 10)
        sock.sendall(
            b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 15000\r\n\r\n" + bytes(12_000)
        )
        return sock

    more = "[limits]\nbodies_bytes = 20000\nbody_s = 1.5\n"
    with running(more) as daemon, begun(daemon) as first:
        with begun(daemon) as second:
            refused = first.recv(65536)
            assert b" 503 " in refused
            assert b"has been coming in longest" in refused
            assert b" 408 " in second.recv(65536)
