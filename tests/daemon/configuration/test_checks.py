"""`coinfer health`: real daemons and servers that only look like one, over real sockets."""

import contextlib
import datetime
import functools
import http.server
import socket
import threading

import pytest

from artefacts import ArtefactError
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.configuration.checks import Credential, NotHealthy, check_device, check_edge
from controller.edge.limits import EdgeLimits
from controller.edge.server import EdgeServer
from controller.link.secure import TlsFiles, server_security
from models.executors import OnnxExecutor
from models.facts.cards import load_model, read_card

NOW = datetime.datetime.now(datetime.UTC)
WAIT_S = 5.0


@pytest.fixture(scope="module")
def model():
    return load_model("alexnet")


@pytest.fixture(scope="module")
def executor(model):
    return OnnxExecutor(model)


@pytest.fixture
def certs(tmp_path):
    """An authority, an edge's and a health check's certificates, and others that are not theirs."""
    folder = tmp_path / "certs"
    make_authority(folder, NOW)
    make_certificate(folder, "edge", "tower", ["127.0.0.1"], 1, NOW)
    make_certificate(folder, "device", "health", [], 1, NOW)
    make_certificate(folder, "edge", "other", ["127.0.0.1"], 1, NOW)
    make_certificate(folder, "edge", "old", ["127.0.0.1"], 1, NOW - datetime.timedelta(days=9))
    make_authority(tmp_path / "others", NOW)
    make_certificate(tmp_path / "others", "device", "health", [], 1, NOW)
    (folder / "token").write_text("a token of some length\n")
    return folder


def tls(folder, name="tower", token=False):
    believed = {"token": str(folder / "token")} if token else {"authority": str(folder / "ca.pem")}
    return TlsFiles(
        certificate=str(folder / f"{name}.pem"), key=str(folder / f"{name}.key"), **believed
    )


def config(folder, port, files=None, host="127.0.0.1"):
    """An edge.toml for what listens on a port."""
    text = f'format_version = 1\nmodels = ["alexnet"]\nhost = "{host}"\nport = {port}\n'
    if files is not None:
        text += "[tls]\n" + "".join(
            f'{name} = "{getattr(files, name)}"\n'
            for name in TlsFiles.__struct_fields__ if getattr(files, name)
        )  # fmt: skip
    path = folder / "edge.toml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def serving(model, executor, files=None, **options):
    security = None if files is None else server_security(files)
    server = EdgeServer(model, executor, security=security, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


def test_an_edge_is_greeted_and_nothing_of_it_is_noticed(model, executor, tmp_path):
    with serving(model, executor) as server:
        path = config(tmp_path, server.port)
        assert check_edge(path, None, WAIT_S) == (
            f"edge: 127.0.0.1:{server.port} answers (no encryption)"
        )
        assert list(server.errors) == []
        path = config(tmp_path, server.port, host="0.0.0.0")
        assert "127.0.0.1" in check_edge(path, None, WAIT_S)


@pytest.mark.parametrize("token", [False, True])
def test_over_tls_it_shows_a_certificate_or_the_token(model, executor, tmp_path, certs, token):
    files = tls(certs, token=token)
    with serving(model, executor, files) as server:
        path = config(tmp_path, server.port, files)
        assert check_edge(path, None, WAIT_S).endswith("answers (TLS)")
        assert list(server.errors) == []


def test_without_a_certificate_to_show_it_says_what_it_did_not_check(
    model, executor, tmp_path, certs
):
    files = tls(certs)
    (certs / "health.pem").unlink()
    with serving(model, executor, files) as server:
        path = config(tmp_path, server.port, files)
        assert "not greeted: no health.pem" in check_edge(path, None, WAIT_S)
    with pytest.raises(NotHealthy, match="refused"):
        check_edge(path, None, WAIT_S)


def test_a_certificate_that_is_not_believed_is_no_answer(model, executor, tmp_path, certs):
    files, strange = tls(certs), tmp_path / "others" / "health.pem"
    with serving(model, executor, files) as server:
        path = config(tmp_path, server.port, files)
        with pytest.raises(NotHealthy, match="edge: 127.0.0.1"):
            check_edge(path, Credential(strange, strange.with_suffix(".key")), WAIT_S)
        with pytest.raises(ArtefactError, match=r"none\.pem"):
            check_edge(path, Credential(certs / "none.pem", certs / "none.key"), WAIT_S)


def test_another_s_or_an_old_certificate_is_noticed(model, executor, tmp_path, certs):
    """The one that was renewed on disk while the edge runs on with the old."""
    with serving(model, executor, tls(certs, "other")) as server:
        with pytest.raises(NotHealthy):
            check_edge(config(tmp_path, server.port, tls(certs)), None, WAIT_S)
    with serving(model, executor, tls(certs, "old")) as server:
        with pytest.raises(NotHealthy, match="expired"):
            check_edge(config(tmp_path, server.port, tls(certs, "old")), None, WAIT_S)


def test_a_plain_edge_where_tls_is_meant_and_the_other_way_round(model, executor, tmp_path, certs):
    files = tls(certs)
    with serving(model, executor) as server, pytest.raises(NotHealthy):
        check_edge(config(tmp_path, server.port, files), None, WAIT_S)
    with serving(model, executor, files) as server, pytest.raises(NotHealthy):
        check_edge(config(tmp_path, server.port), None, WAIT_S)


def test_an_edge_of_other_models_or_one_that_is_full_says_so(model, executor, tmp_path):
    other = load_model("mobilenetv2")
    with serving(other, OnnxExecutor(other)) as server:
        with pytest.raises(NotHealthy, match="model digest"):
            check_edge(config(tmp_path, server.port), None, WAIT_S)
    with serving(model, executor, limits=EdgeLimits(connections=1)) as server:
        path = config(tmp_path, server.port)
        assert check_edge(path, None, WAIT_S)
        with contextlib.ExitStack() as stack:
            from controller.link.edge_link import EdgeLink

            link = EdgeLink("127.0.0.1", server.port, model.digest, lambda reply: None)
            stack.callback(link.close)
            link.wait_connected(WAIT_S)
            with pytest.raises(NotHealthy):
                check_edge(path, None, WAIT_S)


@contextlib.contextmanager
def pretending(answer):
    """A listener that takes a connection, and sends bytes or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def serve():
            with contextlib.suppress(OSError):
                taken.append(listener.accept()[0])
                if answer is not None:
                    taken[0].sendall(answer)
                    taken[0].shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in taken:
            one.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer in time"), (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64), "edge: 127.0.0.1"),
    ],
)  # fmt: skip
def test_a_port_that_is_open_is_not_an_edge(tmp_path, answer, why):
    with pretending(answer) as port, pytest.raises(NotHealthy, match=why):
        check_edge(config(tmp_path, port), None, 0.5)


def test_where_a_port_cannot_be_known_the_file_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="field 'port'"):
        check_edge(config(tmp_path, 0), None, WAIT_S)
    path = tmp_path / "device.toml"
    path.write_text('format_version = 1\nscenario = "3g-alexnet"\n[http]\nport = 0\n')
    with pytest.raises(ArtefactError, match=r"http\.port"):
        check_device(path, WAIT_S)


class Answering(http.server.BaseHTTPRequestHandler):
    """Ready as the class says."""

    status = 200
    body = b'{"ready": true}'

    def do_GET(self):
        self.send_response(self.status if self.path == "/v2/health/ready" else 404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, Answering.body, ""),
        (503, b'{"ready": false}', "found status 503"),
        (200, b"", "found b'', expected"),
        (200, b'{"ready": false}', "expected {.ready.: true}"),
        (200, b"[" * 5000, "expected {.ready.: true}"),
        (200, b"\xff", "expected {.ready.: true}"),
        (200, b"[1]", "expected {.ready.: true}"),
    ],
    ids=str,
)
def test_a_device_is_asked_whether_it_is_ready(tmp_path, status, body, said):
    handler = type("Handler", (Answering,), {"status": status, "body": body})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    path = tmp_path / "device.toml"
    path.write_text(
        f'format_version = 1\nscenario = "3g-alexnet"\n[http]\nport = {server.server_port}\n'
    )
    try:
        if not said:
            assert check_device(path, WAIT_S).endswith("is ready")
        else:
            with pytest.raises(NotHealthy, match=said):
                check_device(path, WAIT_S)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(NotHealthy, match="refused"):
        check_device(path, WAIT_S)


def test_an_answer_that_dribbles_is_no_answer(tmp_path):
    """A socket's time counts anew with every byte; the check's does not."""
    ended = threading.Event()

    def serve(listener):
        taken = listener.accept()[0]
        with taken, contextlib.suppress(OSError):
            while not ended.wait(0.05):
                taken.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        path = tmp_path / "device.toml"
        port = listener.getsockname()[1]
        path.write_text(f'format_version = 1\nscenario = "3g-alexnet"\n[http]\nport = {port}\n')
        with pytest.raises(NotHealthy, match="no answer in time"):
            check_device(path, 0.5)
        ended.set()
        thread.join()


@pytest.fixture
def coinfer(forked):
    return functools.partial(forked, "coinfer.cli.main")


def test_the_command_asks_a_running_daemon_and_says_one_line(coinfer, running, tmp_path):
    with running() as daemon:
        done = coinfer("health", "device", "--config", daemon.config)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"device: {tmp_path}/device.sock is ready\n"
        daemon.stop()
        done = coinfer("health", "device", "--config", daemon.config)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("coinfer: device: ")
        assert done.stderr.count("\n") == 1


def test_the_command_refuses_what_cannot_be_meant(coinfer, tmp_path):
    done = coinfer("health", "edge", "--config", tmp_path / "missing.toml")
    assert done.returncode == 2
    assert "missing.toml" in done.stderr
    done = coinfer("health", "edge", "--config", config(tmp_path, 1), "--key", "x")
    assert done.returncode == 2
    assert "--certificate" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    done = coinfer("health", "edge", "--config", config(tmp_path, free))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_the_digest_is_read_without_the_weights(model):
    assert read_card("alexnet").digest == model.digest
