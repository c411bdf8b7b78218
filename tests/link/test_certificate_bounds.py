"""Certificates: what ends with them, how many connections one may have, which names count."""

import contextlib
import datetime
import socket
import ssl
import threading
import time

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.daemon.configuration import certificates
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.edge import connections as edge_connections
from controller.edge import peer as edge_peer
from controller.edge.limits import EdgeLimits
from controller.edge.scheduler import SchedulerArgs
from controller.link.edge_link import MOST_INTERVALS, EdgeLink, greeting
from controller.link.secure import (
    SecureSocket,
    TlsFiles,
    believed_until_s,
    client_security,
    read_token,
    server_security,
)
from controller.wire import Connection, Message, MessageType, Role
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

T = MessageType
NOW = datetime.datetime.now(datetime.UTC)
DAY_S = 86400.0


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("certs")
    make_authority(made, NOW)
    make_certificate(made, "edge", "edge", ["127.0.0.1"], 30, NOW)
    for name, days in (("pi", 10), ("other", 30)):
        make_certificate(made, "device", name, [], days, NOW)
    return made


def security(folder, name, make):
    end = str(folder / name)
    return make(TlsFiles(str(folder / "ca.pem"), f"{end}.pem", f"{end}.key"))


class Device:
    """A raw device behind TLS; `said` is what it hears first."""

    def __init__(self, port, digest, context):
        sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock = SecureSocket(sock, context, "127.0.0.1")
        self.connection, self.heard, self.digest = Connection(Role.DEVICE), [], digest
        self.say(Message(T.HELLO, meta={"model": digest}))
        self.said = self.next()

    def say(self, *messages):
        self.sock.sendall(b"".join(self.connection.send(m) for m in messages))

    def next(self):
        while not self.heard:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.heard += self.connection.receive(data)
        return self.heard.pop(0)


@pytest.fixture
def connect(stream, folder):
    made = []

    def one(port, name="pi"):
        context = security(folder, name, client_security).context
        made.append(Device(port, stream.model.digest, context))
        return made[-1]

    yield one
    for device in made:
        device.sock.close()


def until(true):
    end = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def test_a_device_s_connection_ends_with_its_certificate(
    stream, executor, serving, folder, connect, monkeypatch
):
    monkeypatch.setattr(edge_peer, "LOOK_S", 0.02)
    wall = [time.time()]
    edge = security(folder, "edge", server_security)
    with serving(stream.model, executor, security=edge, wall=lambda: wall[0]) as server:
        short, long = connect(server.port), connect(server.port, "other")
        wall[0] += 11 * DAY_S
        assert short.next().meta["reason"] == "its certificate has ended"
        assert short.next() is None
        long.say(Message(T.PING, 1))
        assert long.next().type is T.PONG


def test_a_device_leaves_an_edge_whose_certificate_has_ended(stream, executor, serving, folder):
    wall, edge = [time.time()], security(folder, "edge", server_security)
    with serving(stream.model, executor, security=edge) as server:
        made = EdgeLink(
            "127.0.0.1", server.port, stream.model.digest, lambda reply: None,
            security=security(folder, "pi", client_security), wall=lambda: wall[0],
            keepalive_s=0.05,
        )  # fmt: skip
        with contextlib.closing(made):
            assert made.wait_connected(10.0)
            assert made.reconnects == 0
            wall[0] += 31 * DAY_S
            until(lambda: made.reconnects > 0)
            assert "certificate has ended" in made.last_error


def test_an_authority_that_ends_first_counts_too(folder):
    context = security(folder, "edge", server_security).context
    (authority,) = context.get_ca_certs()
    ends_s = ssl.cert_time_to_seconds(authority["notAfter"])
    issued = {"issuer": authority["subject"], "notAfter": "Dec 31 00:00:00 2099 GMT"}
    assert believed_until_s(issued, context) == ends_s
    assert believed_until_s(None, context) == float("inf")


def test_no_session_is_taken_up_again(stream, executor, serving, folder):
    context = security(folder, "pi", client_security).context
    edge = security(folder, "edge", server_security)
    with serving(stream.model, executor, security=edge) as server:
        session = None
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", server.port), 10)
            with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as sock:
                sock.sendall(Connection(Role.DEVICE).send(
                    Message(T.HELLO, meta={"model": stream.model.digest})
                ))  # fmt: skip
                assert sock.recv(1000)
                assert not sock.session_reused
                assert sock.session is None or not sock.session.has_ticket
                session = sock.session


def test_one_certificate_has_few_connections_and_hears_why(
    stream, executor, serving, folder, connect, monkeypatch
):
    edge = security(folder, "edge", server_security)
    limits = EdgeLimits(per_certificate=2)
    with serving(stream.model, executor, security=edge, limits=limits) as server:
        first, second, third = (connect(server.port) for _ in range(3))
        assert [d.said.type for d in (first, second, third)] == [T.WELCOME, T.WELCOME, T.REFUSE]
        assert third.said.meta["reason"] == "refused, 2 connections of this certificate are open"
        assert connect(server.port, "other").said.type is T.WELCOME
        # one that it lost without our knowledge does not keep it out
        monkeypatch.setattr(edge_connections, "QUIET_S", -1.0)
        second.say(Message(T.PING, 1))
        assert second.next().type is T.PONG
        assert connect(server.port).said.type is T.WELCOME
        assert "it was silent" in first.next().meta["reason"]
        monkeypatch.setattr(edge_connections, "QUIET_S", 15.0)
        # the one that goes is not there any more, whether it has hung up or not
        assert connect(server.port).said.type is T.REFUSE


class Gated:
    """Computes when the gate opens."""

    def __init__(self, inner):
        self.inner, self.gate = inner, threading.Event()

    def run(self, *interval):
        assert self.gate.wait(10)
        return self.inner.run(*interval)

    def decode(self, *what):
        return self.inner.decode(*what)


def test_one_certificate_fills_no_queue_by_many_connections(
    stream, executor, serving, folder, connect
):
    edge, gated = security(folder, "edge", server_security), Gated(executor)
    picture = generated_pictures(1, np.random.default_rng(0))[0]
    limits = EdgeLimits(admitted=3)
    meta = {
        "model": stream.model.digest, "exit": 0, "start": 0,
        "stop": len(stream.spec.branches[0]), "codec": "uint8", "shape": [32, 32, 3],
        "bytes": 3072, "remaining_s": 9.0,
    }  # fmt: skip
    with serving(
        stream.model, gated, security=edge, limits=limits, schedule=SchedulerArgs(batch=1)
    ) as server:
        devices = [connect(server.port) for _ in range(3)]
        for device in devices:
            for number in (1, 2):
                device.say(
                    Message(T.REQUEST, number, meta=meta),
                    Message(T.CHUNK, number, payload=picture.tobytes()),
                )
        until(lambda: server.refused == 3)
        gated.gate.set()
        until(lambda: server.served == 3)


def test_a_certificate_s_names_are_its_alternative_names(
    stream, executor, serving, folder, tmp_path
):
    authority, signer = certificates._read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        certificates._builder(subject, authority.subject, key.public_key(), NOW, 30)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .sign(signer, hashes.SHA256())
    )
    (tmp_path / "named.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "named.key").write_bytes(text)
    (tmp_path / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    edge = security(tmp_path, "named", server_security)
    with serving(stream.model, executor, security=edge) as server:
        plain = socket.create_connection(("127.0.0.1", server.port), 10)
        with contextlib.closing(plain), pytest.raises(ssl.SSLCertVerificationError, match="match"):
            SecureSocket(plain, security(folder, "pi", client_security).context, "localhost")


@pytest.mark.parametrize("token", [b"x" * 15, b"x" * 1025, b"x" * 20 + b"\x01", b"\xc3\xa9" * 20])
def test_a_token_fits_into_a_greeting(tmp_path, token):
    (tmp_path / "token").write_bytes(token)
    with pytest.raises(Exception, match="expected a token of 16 to 1024 ASCII bytes"):
        read_token(tmp_path / "token")


def test_the_longest_greeting_that_there_can_be_is_sent(stream, executor, serving, tmp_path):
    (tmp_path / "token").write_bytes(b'"\\' * 512)
    token = read_token(tmp_path / "token")
    said = greeting("0" * 64, [(99, 99, 100)] * 5000, token)
    Connection(Role.DEVICE).send(Message(T.HELLO, meta=said))
    assert said["token"] == token.decode()
    assert len(said["intervals"]) == MOST_INTERVALS
