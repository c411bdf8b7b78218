"""What a page in a browser may ask: by the headers that no page can fake."""

import pytest
from multidict import CIMultiDict

from artefacts import UsageError
from controller.daemon.http.browsers import (
    UNNAMED,
    check_hosts,
    check_sender,
    host_of,
    is_own,
    media_type,
)
from controller.daemon.inference.refusals import ForeignError, UnsupportedError

OWN = ("127.0.0.1", "camera.lan")


def sent(**headers):
    return CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8700", "localhost.", "127.0.0.1:8700", "127.3.2.1", "[::1]", "[::1]:1",
     "camera.lan", "Camera.LAN:80"],
)  # fmt: skip
def test_loopback_and_named_hosts_are_served(host):
    check_sender(sent(Host=host), OWN, on_network=True)
    check_sender(sent(Host=host, Origin=f"http://{host}"), OWN, on_network=True)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8700",
     "10.0.0.1", "0.0.0.0", "[::]", "", " ", "localhost@evil.example", "localhost:x", "a b",
     "127.0.0.1/..", "camera.lan.evil"],
)  # fmt: skip
def test_other_hosts_are_refused_on_the_network_alone(host):
    """A page cannot reach a socket in the file system, and programs ask it by any name."""
    with pytest.raises(ForeignError, match="Host: found"):
        check_sender(sent(Host=host), OWN, on_network=True)
    check_sender(sent(Host=host), OWN, on_network=False)


def test_every_one_of_several_hosts_counts():
    both = CIMultiDict([("Host", "localhost"), ("Host", "evil.example")])
    with pytest.raises(ForeignError):
        check_sender(both, OWN, on_network=True)


def test_programs_without_a_host_are_served():
    check_sender(sent(), (), on_network=True)
    check_sender(sent(), (), on_network=False)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://localhost", "http://localhost:3000",
     "https://127.0.0.1:8701", "http://camera.lan", "file://", "http://[::1", "localhost:8700", "chrome-extension://x"],
)  # fmt: skip
def test_pages_of_another_origin_are_refused(origin):
    with pytest.raises(ForeignError, match="Origin: found"):
        check_sender(sent(Host="localhost:8700", Origin=origin), OWN, on_network=True)


def test_the_daemons_own_pages_are_served():
    check_sender(
        sent(Host="localhost:8700", Origin="http://localhost:8700", Sec_Fetch_Site="same-origin"),
        (), on_network=True,
    )  # fmt: skip
    check_sender(sent(Host="localhost", Sec_Fetch_Site="none"), (), on_network=True)
    proxied = sent(Host="camera.lan", Origin="https://camera.lan", Sec_Fetch_Site="same-origin")
    for on_network in (True, False):
        check_sender(proxied, OWN, on_network=on_network)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "", "what"])
def test_requests_for_other_sites_are_refused(site):
    for on_network in (True, False):
        with pytest.raises(ForeignError, match="Sec-Fetch-Site: found"):
            check_sender(sent(Host="localhost", Sec_Fetch_Site=site), OWN, on_network=on_network)


def test_bodies_have_the_type_of_what_they_are():
    for name in ("application/json", "Application/JSON; charset=utf-8"):
        assert media_type(sent(Content_Type=name)) == "application/json"
    for name in ("image/jpeg", "application/octet-stream"):
        assert media_type(sent(Content_Type=name)) == name
    for name in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "image/png", "image/jpeg, text/plain", "application/jsonx",
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match="Content-Type: found"):
            media_type(sent(Content_Type=name))


def test_programs_alone_may_leave_the_type_out():
    """A page can send a body without a type; its origin gives it away."""
    assert media_type(sent()) == UNNAMED
    for more in ({"Origin": "http://localhost:8700"}, {"Sec_Fetch_Site": "same-origin"}):
        with pytest.raises(UnsupportedError):
            media_type(sent(**more))


def test_hosts_of_a_configuration_are_names_and_addresses_without_ports():
    check_hosts(("camera.lan", "localhost", "10.1.2.3", "fe80::1"))
    for wrong in ("camera.lan:8700", "http://camera.lan", "*", "*.lan", "", "a b", "[::1]", "a/b"):
        with pytest.raises(UsageError, match="a host's name or address without a port"):
            check_hosts((wrong,))


def test_hosts_are_read_whole():
    assert host_of("[::1]:8700") == "::1"
    assert host_of("a.b.:1") == "a.b"
    assert host_of("a:b:1") == ""
    assert is_own("::1", ())
    assert not is_own("", ("x",))
