"""IPv4, IPv6 and names: written and read, listened on and connected to, with dead ones between."""

import contextlib
import datetime
import ipaddress
import queue
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import ArtefactError, UsageError
from artefacts.owners import this_process
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.configuration.settings import parse_edge
from controller.link import edge_link as link_module
from controller.link.addresses import (
    check_address,
    in_test_namespace,
    join_address,
    network_of,
    plain_host,
    resolve,
    server_name,
    split_address,
)
from controller.link.dialling import connect, interleaved, listen
from controller.link.edge_link import EdgeLink
from controller.link.secure import TlsFiles, client_security, server_security
from experiments.replay.testbed.namespaces import inside, missing_tools, run
from models.executors import OnnxExecutor

LOOPBACK4 = (socket.AF_INET, ("127.0.0.1", 0))


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6 on loopback")


@pytest.fixture(scope="module")
def executor(stream):
    return OnnxExecutor(stream.model)


# -- reading and writing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7700", ("127.0.0.1", 7700)),
        ("edge.example:1", ("edge.example", 1)),
        ("[::1]:7700", ("::1", 7700)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
        ("[::ffff:10.0.0.1]:80", ("::ffff:10.0.0.1", 80)),
    ],
)
def test_addresses_are_read_and_written_back(text, expected, tmp_path):
    assert split_address(text) == expected
    assert join_address(*expected) == text
    assert parse_edge(text, tmp_path / "x.toml", "edges[0]") == expected


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", "host:0", "host:65536", "host:٣", "host:+1", "host: 1", "h:1 ",
     "a:1\n", ":80", "::1:7700", "::1", "[::1]", "[::1]:", "[::1]7700", "[host]:80",
     "[127.0.0.1]:80", "[]:80", "[::1:80", "::1]:80", "a b:80", "[fe80::1%]:80",
     "host:99999999999999999999"],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_one_line(text, tmp_path):
    with pytest.raises(UsageError, match=r"expected HOST:PORT or \[IPV6\]:PORT"):
        split_address(text)
    with pytest.raises(ArtefactError) as error:
        parse_edge(text, tmp_path / "x.toml", "edges[0]")
    assert "x.toml, field 'edges[0]': found '" in str(error.value)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_ip_address_survives(address, port):
    assert split_address(join_address(str(address), port)) == (str(address), port)


@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    try:
        host, port = split_address(text)
    except UsageError:
        return
    assert split_address(join_address(host, port)) == (host, port)


@pytest.mark.parametrize("host", ["::1", "localhost", "127.9.9.9", "::ffff:127.0.0.1"])
def test_loopback_of_both_families_needs_no_encryption(host):
    check_address(host)


@pytest.mark.parametrize(
    "host",
    ["::", "0.0.0.0", "fe80::1%eth0", "fe80::1", "2001:db8::1", "::ffff:8.8.8.8", "::127.0.0.1",
     "edge.example", "", "[::1]", "::1 ", "10.200.1.1", "::ffff:10.200.0.9"],
)  # fmt: skip
def test_everything_else_does(host):
    with pytest.raises(UsageError, match="address: found"):
        check_address(host)
    if host:
        check_address(host, secure=True)


def test_the_testbed_s_network_is_one_inside_its_namespaces_alone():
    """Elsewhere it may be somebody's network."""
    if missing_tools():
        pytest.skip(f"needs {', '.join(missing_tools())}")
    name, other = this_process().name("addresses"), "somebody-s-own"
    for namespace, good in ((name, True), (other, False)):
        run(["ip", "netns", "add", namespace])
        try:
            with inside(namespace):
                assert in_test_namespace() == good
                if good:
                    check_address("10.200.1.1")
                    check_address("::ffff:10.200.0.9")
                with pytest.raises(UsageError):
                    check_address("10.201.1.1" if good else "10.200.1.1")
        finally:
            run(["ip", "netns", "del", namespace])
    assert not in_test_namespace()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2::9", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::1", "::1"),
        ("?", "?"),
    ],
)
def test_of_ipv6_a_subscriber_has_a_whole_network(host, network):
    assert network_of(host) == network


def test_a_mapped_address_is_ipv4_s_and_a_zone_is_no_part_of_a_name():
    assert plain_host("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_host("::1") == "::1"
    assert plain_host("?") == "?"
    assert server_name("fe80::1%eth0") == "fe80::1"
    assert server_name("edge.example") == "edge.example"


def test_a_name_that_is_none_is_an_error_of_the_system_s_kind():
    with pytest.raises(OSError, match="no host's name"):
        resolve("a" * 70, 1)


# -- connecting ------------------------------------------------------------------------------------


@pytest.fixture
def good():
    """A listener that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def black_hole():
    """An address where nobody answers: the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # of which the kernel takes one or two
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield (socket.AF_INET, listener.getsockname())


@pytest.fixture
def closed():
    """An address that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return (socket.AF_INET, listener.getsockname())


def test_a_dead_first_address_does_not_shut_out_a_good_second(good, black_hole, closed):
    there = (socket.AF_INET, good.getsockname())
    for dead in (black_hole, closed):
        began = time.monotonic()
        sock, used = connect([dead, there], 2.0)
        with sock:
            assert used == there
            assert sock.getpeername() == good.getsockname()
            assert sock.gettimeout() == 2.0
        assert time.monotonic() - began < 1.0


def test_many_dead_ones_share_the_time(good, black_hole):
    there = (socket.AF_INET, good.getsockname())
    sock, used = connect([black_hole, black_hole, black_hole, there], 2.0)
    sock.close()
    assert used == there
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.4 s"):
        connect([black_hole, black_hole], 0.4)
    assert 0.4 <= time.monotonic() - began < 1.0


def test_where_nobody_listens_the_system_s_words_are_kept(closed):
    with pytest.raises(ConnectionRefusedError) as error:
        connect([closed], 1.0)
    assert str(error.value) == "[Errno 111] Connection refused"
    with pytest.raises(ConnectionRefusedError, match=rf"\(127\.0\.0\.1:{closed[1][1]}\)"):
        connect([closed, closed], 1.0)
    with pytest.raises(TimeoutError):
        connect([], 1.0)


def test_families_take_turns():
    four, six = socket.AF_INET, socket.AF_INET6
    given_ = [(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)]
    assert interleaved(given_) == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]
    assert interleaved([]) == []


# -- listening -------------------------------------------------------------------------------------


def test_an_address_that_is_not_here_is_passed_over_where_another_is():
    elsewhere = (socket.AF_INET, ("192.0.2.1", 0))
    made = listen([elsewhere, LOOPBACK4, (socket.AF_INET, ("127.0.0.2", 0))])
    try:
        hosts, ports = zip(*(sock.getsockname() for sock in made), strict=True)
        assert hosts == ("127.0.0.1", "127.0.0.2")
        assert len(set(ports)) == 1
    finally:
        for sock in made:
            sock.close()
    with pytest.raises(OSError, match="assign"):
        listen([elsewhere])
    with pytest.raises(OSError, match="assign"):
        listen([elsewhere, elsewhere])


def test_an_address_that_is_taken_is_refused_and_nothing_stays_open(good):
    taken = (socket.AF_INET, good.getsockname())
    free = (socket.AF_INET, ("127.0.0.2", good.getsockname()[1]))
    with pytest.raises(OSError, match="in use"):
        listen([free, taken])
    listen([free])[0].close()


# -- device and edge -------------------------------------------------------------------------------


@contextlib.contextmanager
def linked(model, host, port, **options):
    replies = queue.Queue()
    with contextlib.closing(EdgeLink(host, port, model.digest, replies.put, **options)) as link:
        yield link


@ipv6
@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_an_edge_and_its_devices_on_ipv6(stream, executor, serving, host):
    with serving(stream.model, executor, host=host) as server:
        for client in ("::1",) if host == "::1" else ("127.0.0.1", "localhost"):
            with linked(stream.model, client, server.port) as link:
                assert link.wait_connected(5.0), link.last_error
                assert link.address == join_address(client, server.port)
                assert {peer.address for peer in server.peers} <= {"::1", "127.0.0.1"}
        if host == "::1":
            assert server.address == f"[::1]:{server.port}"


@ipv6
def test_an_edge_on_every_address_serves_both_families(stream, executor, serving):
    with serving(stream.model, executor, host="::", insecure=True) as server:
        assert server.address == f"[::]:{server.port}"
        with linked(stream.model, "::1", server.port) as six:
            with linked(stream.model, "127.0.0.1", server.port) as four:
                assert six.wait_connected(5.0), six.last_error
                assert four.wait_connected(5.0), four.last_error
                assert {peer.address for peer in server.peers} == {"::1", "127.0.0.1"}


@ipv6
def test_certificates_for_ipv6_addresses(stream, executor, serving, tmp_path):
    now = datetime.datetime.now(datetime.UTC)
    make_authority(tmp_path, now)
    make_certificate(tmp_path, "edge", "tower", ["::1", "fe80::7%eth0"], 2, now)
    make_certificate(tmp_path, "edge", "other", ["2001:db8::1", "127.0.0.1"], 2, now)
    make_certificate(tmp_path, "device", "pi", [], 2, now)

    def files(name):
        return TlsFiles(*(str(tmp_path / n) for n in ("ca.pem", f"{name}.pem", f"{name}.key")))

    security = client_security(files("pi"))
    for name, believed in (("tower", True), ("other", False)):
        with serving(
            stream.model, executor, host="::1", security=server_security(files(name))
        ) as server:
            with linked(stream.model, "::1", server.port, security=security) as link:
                assert link.wait_connected(5.0 if believed else 1.0) == believed
                assert believed or "IP address mismatch" in link.last_error


def test_an_address_that_greets_nobody_is_asked_last(stream, executor, serving, monkeypatch):
    """A name's first address takes connections and says nothing; the second is an edge."""
    hung_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as mute, serving(stream.model, executor) as server:
        both = [(socket.AF_INET, mute.getsockname()), (socket.AF_INET, ("127.0.0.1", server.port))]
        monkeypatch.setattr(link_module, "resolve", lambda host, port: both)

        def hang_up():
            for _ in range(2):
                mute.accept()[0].close()
                hung_up.set()

        threading.Thread(target=hang_up, daemon=True).start()
        with linked(stream.model, "localhost", 1) as link:
            assert link.wait_connected(5.0), link.last_error
            assert hung_up.is_set()


def test_scoped_addresses_name_their_interface():
    try:
        ((family, where),) = resolve("fe80::1%lo", 7700)
    except OSError as error:
        pytest.skip(f"no zones here: {error}")
    assert family == socket.AF_INET6
    assert where[3] == socket.if_nametoindex("lo")
    assert ipaddress.ip_address("fe80::1%lo").scope_id == "lo"
