"""TLS and tokens between device and edge: who is believed, who is not, and what others get."""

import contextlib
import datetime
import socket
import ssl
import stat
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization

from artefacts import ArtefactError, UsageError
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.device.frame_loops import DeviceConfig, connect_loop
from controller.edge.limits import EdgeLimits
from controller.edge.server import EdgeServer
from controller.link.secure import (
    SecureSocket,
    Security,
    TlsFiles,
    client_security,
    read_token,
    server_security,
)
from controller.planners.fixed import FixedController
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

NOW = datetime.datetime.now(datetime.UTC)
TOKEN = "a-shared-token-of-some-length"


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    for authority in ("ours", "theirs"):
        make_authority(folder / authority, NOW)
        make_certificate(folder / authority, "edge", "edge", ["127.0.0.1", "localhost"], 30, NOW)
        make_certificate(folder / authority, "device", "pi", [], 30, NOW)
    long_ago = NOW - datetime.timedelta(days=60)
    make_certificate(folder / "ours", "device", "old", [], 30, long_ago)
    make_certificate(folder / "ours", "edge", "elsewhere", ["10.9.9.9"], 30, NOW)
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "other-token").write_text("another-token-of-some-length")
    return folder


def tls(files, authority="ours", name=None, token=None, certified_by="ours"):
    folder = files / certified_by
    return TlsFiles(
        str(files / authority / "ca.pem") if authority else "",
        str(folder / f"{name}.pem") if name else "",
        str(folder / f"{name}.key") if name else "",
        str(files / token) if token else "",
    )


@pytest.fixture
def edge(stream, executor):
    @contextlib.contextmanager
    def serving(security, **options):
        server = EdgeServer(stream.model, executor, security=security, **options)
        server.start()
        try:
            yield server
        finally:
            server.close()

    return serving


def ask(stream, executor, port, security, host="127.0.0.1", wait_s=5.0):
    plan = next(k for k, p in enumerate(stream.table.plans) if p.hops and p.hops[0].start == 0)
    loop = connect_loop(
        stream.model, executor, stream.device, stream.table, FixedController("x", plan),
        (host, port), DeviceConfig("stream", 5.0, 0.01, 6), connect_timeout_s=wait_s,
        security=security,
    )  # fmt: skip
    with contextlib.closing(loop.link):
        pictures = generated_pictures(6, np.random.default_rng(0))
        connected = loop.link.connected
        return connected, loop.run(pictures), loop.link.last_error


def test_certificates_of_one_authority_believe_each_other(stream, executor, edge, files):
    with edge(server_security(tls(files, name="edge"))) as server:
        for host in ("127.0.0.1", "localhost"):
            connected, records, _ = ask(
                stream, executor, server.port, client_security(tls(files, name="pi")), host
            )
            assert connected
            assert all(r.where == "edge" for r in records)


@pytest.mark.parametrize(("edge_s", "device_s"), [("ours", "theirs"), ("theirs", "ours")])
def test_while_both_authorities_are_believed_either_end_may_have_the_new_one_s(
    stream, executor, edge, files, edge_s, device_s
):
    """As a new authority takes over: certificates change one machine after the other."""
    both = files / "both"
    both.mkdir(exist_ok=True)
    named = [(files / one / "ca.pem").read_text() for one in ("ours", "theirs")]
    (both / "ca.pem").write_text("".join(named))
    own = tls(files, "both", "edge", certified_by=edge_s)
    with edge(server_security(own)) as server:
        shown = client_security(tls(files, "both", "pi", certified_by=device_s))
        connected, records, error = ask(stream, executor, server.port, shown)
    assert connected, error
    assert all(r.where == "edge" for r in records)


def test_a_token_stands_for_a_device_s_certificate(stream, executor, edge, files):
    security = server_security(tls(files, authority="", name="edge", token="token"))
    with edge(security) as server:
        mine = client_security(tls(files, token="token"))
        assert ask(stream, executor, server.port, mine)[0]
        for wrong in (
            client_security(tls(files, token="other-token")),
            client_security(tls(files)),
        ):
            connected, records, why = ask(stream, executor, server.port, wrong, wait_s=0.5)
            assert not connected
            assert "token" in why
            assert all(r.where == "device" for r in records)


@pytest.mark.parametrize(
    ("device", "edge_files", "said"),
    [
        ({"name": "pi", "certified_by": "theirs"}, {"name": "edge"}, "verify failed"),
        ({}, {"name": "edge"}, "did not return a certificate"),
        ({"name": "old"}, {"name": "edge"}, "certificate has expired"),
        ({"name": "edge"}, {"name": "edge"}, "unsuitable certificate purpose"),
        ({"name": "pi"}, {"name": "edge", "certified_by": "theirs"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"name": "pi"}, {"name": "elsewhere"}, "IP address mismatch"),
        ({"name": "pi"}, {"name": "pi"}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_whoever_cannot_be_believed_gets_nothing(
    stream, executor, edge, files, device, edge_files, said
):
    with edge(server_security(tls(files, **edge_files))) as server:
        security = client_security(tls(files, **device))
        connected, records, why = ask(stream, executor, server.port, security, wait_s=0.5)
        assert not connected
        # one of the ends says why; the other sees the connection end
        assert any(said in text for text in (why, *server.errors)), (why, server.errors)
        assert "certificate" in why
        assert all(r.where == "device" for r in records)
        assert server.served == 0


def test_plain_devices_and_old_versions_are_not_served(stream, executor, edge, files):
    limits = EdgeLimits(greeting_s=0.3)
    with edge(server_security(tls(files, name="edge")), limits=limits) as server:
        connected, records, _ = ask(stream, executor, server.port, None, wait_s=0.3)
        assert not connected
        assert all(r.where == "device" for r in records)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(files / "ours" / "ca.pem")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(sock, server_hostname="127.0.0.1")
        # whoever says nothing is dropped within the greeting's time
        with socket.create_connection(("127.0.0.1", server.port), 5) as silent:
            silent.settimeout(10)
            assert silent.recv(10) == b""
        good = client_security(tls(files, name="pi"))
        assert ask(stream, executor, server.port, good)[0]


def test_a_device_with_tls_sends_nothing_to_a_plain_edge(stream, executor, edge, files):
    with edge(None) as server:
        security = client_security(tls(files, name="pi", token="token"))
        connected, _, why = ask(stream, executor, server.port, security, wait_s=0.5)
        assert not connected
        assert why
        assert all(TOKEN not in e for e in server.errors)


def test_without_tls_nothing_listens_beyond_loopback_unless_allowed(stream, executor, files):
    with pytest.raises(UsageError, match="without TLS nothing else"):
        EdgeServer(stream.model, executor, "0.0.0.0")
    for options in ({"insecure": True}, {"security": server_security(tls(files, name="edge"))}):
        server = EdgeServer(stream.model, executor, "0.0.0.0", **options)
        server.start()
        server.close()


def test_what_is_missing_or_does_not_match_is_named(files, tmp_path):
    with pytest.raises(UsageError, match=r"tls\.certificate: found none"):
        server_security(tls(files))
    with pytest.raises(UsageError, match="it says who is believed"):
        server_security(tls(files, authority="", name="edge"))
    with pytest.raises(UsageError, match=r"tls\.authority: found none"):
        client_security(tls(files, authority="", name="pi"))
    mixed = TlsFiles(
        str(files / "ours" / "ca.pem"),
        str(files / "ours" / "pi.pem"),
        str(files / "ours" / "edge.key"),
    )
    with pytest.raises(ArtefactError, match=r"pi\.pem: found .*MISMATCH"):
        client_security(mixed)
    with pytest.raises(ArtefactError, match=r"nowhere/ca\.pem"):
        client_security(TlsFiles("nowhere/ca.pem"))
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ArtefactError, match="found 3 bytes, expected a token of 16"):
        read_token(tmp_path / "short")


@pytest.mark.parametrize("side", [client_security, server_security])
def test_an_encrypted_key_is_one_line_and_asks_nobody(tmp_path, side):
    make_authority(tmp_path, NOW)
    make_certificate(tmp_path, "edge", "tower", ["127.0.0.1"], 1, NOW)
    path = tmp_path / "tower.key"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )  # fmt: skip
    named = TlsFiles(str(tmp_path / "ca.pem"), str(tmp_path / "tower.pem"), str(path))
    with pytest.raises(ArtefactError) as error:
        side(named)
    assert str(error.value) == f"{path}: found an encrypted key, expected one without a passphrase"
    path.rename(tmp_path / "ca.key")
    with pytest.raises(ArtefactError, match="found an encrypted key"):
        make_certificate(tmp_path, "device", "pi", [], 1, NOW)


def test_tokens_are_compared_whole_and_only_as_text():
    security = Security(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), b"x" * 20)
    assert security.knows("x" * 20)
    for wrong in ("x" * 19, "x" * 21, "", None, 20, ["x" * 20], "é" * 20):
        assert not security.knows(wrong)


def test_keys_are_their_owner_s_alone_and_nothing_is_replaced(files):
    for path in files.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ArtefactError, match="an authority"):
        make_authority(files / "ours", NOW)
    with pytest.raises(ArtefactError, match="a certificate"):
        make_certificate(files / "ours", "device", "pi", [], 30, NOW)
    with pytest.raises(UsageError, match="expected the addresses"):
        make_certificate(files / "ours", "edge", "new", [], 30, NOW)
    with pytest.raises(UsageError, match="a file can have"):
        make_certificate(files / "ours", "device", "../up", [], 30, NOW)
    with pytest.raises(ArtefactError, match="coinfer certs init"):
        make_certificate(files / "nowhere", "device", "pi", [], 30, NOW)


def test_one_thread_sends_while_another_receives(files):
    """The pattern of the device's link: both directions busy at once, every byte as it was."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files / "ours" / "edge.pem", files / "ours" / "edge.key")
    client = client_security(tls(files)).context
    data = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo():
            plain, _ = listener.accept()
            with server.wrap_socket(plain, server_side=True) as sock:
                while part := sock.recv(65536):
                    sock.sendall(part)

        thread = threading.Thread(target=echo)
        thread.start()
        sock = socket.create_connection(listener.getsockname(), 10)
        secure = SecureSocket(sock, client, "127.0.0.1")
        sender = threading.Thread(target=secure.sendall, args=(data,))
        sender.start()
        found = b""
        while len(found) < len(data):
            part = secure.recv(50_000)
            assert part
            found += part
        assert found == data
        secure.shutdown(socket.SHUT_WR)
        sender.join(10)
        secure.close()
        thread.join(10)


def test_an_authority_beside_a_token_is_no_half_measure(files):
    """Either devices show certificates, or a token: both named would quietly mean the second."""
    with pytest.raises(UsageError, match="found both of 'authority' and 'token'"):
        server_security(tls(files, name="edge", token="token"))
