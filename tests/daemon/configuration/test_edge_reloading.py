"""SIGHUP, or a change of its file, lets an edge take over what it may while it serves."""

import datetime
import re
import signal
import ssl
import subprocess
import sys
import time

import msgspec
import pytest

from artefacts import ArtefactError, UsageError
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.configuration.edge_reloading import edge_changes, prepare_edge
from controller.daemon.configuration.settings import read_edge_settings
from controller.edge.connections import Connections
from controller.edge.limits import EdgeLimits
from controller.link.secure import TlsFiles

PLAIN = 'format_version = 1\nmodels = ["alexnet"]\nport = 0\n'
TLS = PLAIN + '[tls]\nauthority = "ca.pem"\ncertificate = "{0}.pem"\nkey = "{0}.key"\n'


def certified(folder, *names):
    now = datetime.datetime.now(datetime.UTC)
    make_authority(folder, now)
    for name in names:
        make_certificate(folder, "edge", name, ["127.0.0.1"], 1, now)


@pytest.fixture
def edge(tmp_path):
    """`edge(text)`: an edge's process with this file; killed at the end."""
    processes = []

    def start(text):
        (tmp_path / "edge.toml").write_text(text)
        with (tmp_path / "log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "coinfer.cli.entry", "edge", "--config", "edge.toml",
                     "--port-file", "port"], cwd=tmp_path, stderr=log,
                )
            )  # fmt: skip
        return processes[0]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(folder, pattern, seconds=60.0):
    """What an edge has written, once a pattern is found in it."""
    end = time.monotonic() + seconds
    while not (found := re.search(pattern, (folder / "log").read_text())):
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.01)
    return found


def shown(port, folder):
    """The certificate that an edge shows who connects."""
    return ssl.get_server_certificate(("127.0.0.1", port), ca_certs=folder / "ca.pem")


def text_of(folder, name):
    return (folder / f"{name}.pem").read_text()


def test_an_edge_takes_over_its_certificate_and_a_broken_file_changes_nothing(edge, tmp_path):
    certified(tmp_path, "first", "second")
    process = edge(TLS.format("first"))
    port = int(until(tmp_path, r"listening on \S+:(\d+), TLS")[1])
    assert shown(port, tmp_path) == text_of(tmp_path, "first")

    (tmp_path / "edge.toml").write_text("format_version = 1\nmodel = 3\n")
    process.send_signal(signal.SIGHUP)
    until(tmp_path, r"ERROR coinfer.edge: not reloaded: \S*edge.toml: found .*model")
    assert shown(port, tmp_path) == text_of(tmp_path, "first")

    (tmp_path / "edge.toml").write_text(
        TLS.format("second").replace("port = 0", f"port = {port}")
        + '[limits]\nconnections = 7\n[log]\nlevel = "debug"\n'
    )
    process.send_signal(signal.SIGHUP)
    until(tmp_path, r"reloaded: limits, log, tls; a restart is needed for port\n")
    assert shown(port, tmp_path) == text_of(tmp_path, "second")

    (tmp_path / "edge.toml").write_text("format_version = 1\nmodel = 4\n")  # noticed without a word
    until(tmp_path, r"not reloaded(.|\n)*not reloaded")
    process.terminate()
    assert process.wait(30) == 0


def settings(folder, text=PLAIN):
    (folder / "edge.toml").write_text(text)
    return read_edge_settings(folder / "edge.toml")


def test_what_counts_at_the_start_alone_stays_as_it_was(tmp_path):
    old = settings(tmp_path)
    new = msgspec.structs.replace(
        old, threads=3, limits=EdgeLimits(connections=9, intervals=5),
        tls=TlsFiles(authority="ca.pem"),
    )  # fmt: skip
    changes = edge_changes(old, new)
    assert changes.fixed == ("threads", "limits.intervals", "tls")
    assert changes.taken == ("limits",)
    assert changes.settings == msgspec.structs.replace(old, limits=EdgeLimits(connections=9))
    assert edge_changes(old, old).taken == ()


def test_files_that_tls_names_are_read_before_anything_is_taken_over(tmp_path):
    certified(tmp_path, "first")
    settings(tmp_path, TLS.format("first"))
    assert prepare_edge(tmp_path / "edge.toml").security is not None
    (tmp_path / "first.key").write_text("no key")
    with pytest.raises(ArtefactError, match=r"first\.pem"):
        prepare_edge(tmp_path / "edge.toml")
    settings(tmp_path, PLAIN + '[tls]\nauthority = "ca.pem"\n')
    with pytest.raises(UsageError, match=r"edge.toml.*tls.certificate"):
        prepare_edge(tmp_path / "edge.toml")


def test_a_certificate_that_no_device_would_believe_is_not_taken_over(tmp_path):
    """A device's own, another authority's, or one that has ended."""
    certified(tmp_path, "first")
    now = datetime.datetime.now(datetime.UTC)
    make_certificate(tmp_path, "device", "pi", [], 1, now)
    make_certificate(tmp_path, "edge", "old", ["127.0.0.1"], 1, now - datetime.timedelta(days=9))
    (tmp_path / "other").mkdir()
    certified(tmp_path / "other", "foreign")
    for name in ("foreign.pem", "foreign.key"):
        (tmp_path / "other" / name).rename(tmp_path / name)
    for name, said in (
        ("pi", "found unsuitable certificate purpose"),
        ("foreign", "found unable to get local issuer certificate|certificate signature failure"),
        ("old", "found certificate has expired"),
    ):
        settings(tmp_path, TLS.format(name))
        with pytest.raises(ArtefactError, match=rf"{name}\.pem: ({said})") as refused:
            prepare_edge(tmp_path / "edge.toml")
        assert "\n" not in str(refused.value)
        # of an edge that has such a one from its start, as another authority makes them
        assert prepare_edge(tmp_path / "edge.toml", own_authority=False).security is not None
    settings(tmp_path, TLS.format("first"))
    assert prepare_edge(tmp_path / "edge.toml").security is not None


def test_with_a_token_no_authority_is_asked(tmp_path):
    certified(tmp_path, "first")
    (tmp_path / "token").write_text("t" * 32)
    text = TLS.format("first").replace('authority = "ca.pem"', 'token = "token"')
    settings(tmp_path, text)
    assert prepare_edge(tmp_path / "edge.toml").security is not None


def test_tls_is_taken_over_where_its_files_hold_something_else(tmp_path):
    certified(tmp_path, "first")
    settings(tmp_path, TLS.format("first"))
    before = prepare_edge(tmp_path / "edge.toml")
    again = prepare_edge(tmp_path / "edge.toml")
    assert again.credentials == before.credentials != ""
    assert edge_changes(before.settings, again.settings).taken == ()
    make_certificate(
        tmp_path, "edge", "second", ["127.0.0.1"], 1, datetime.datetime.now(datetime.UTC)
    )
    for end in ("pem", "key"):
        (tmp_path / f"second.{end}").replace(tmp_path / f"first.{end}")
    renewed = prepare_edge(tmp_path / "edge.toml")
    assert renewed.credentials != before.credentials
    assert edge_changes(before.settings, renewed.settings, renewed=True).taken == ("tls",)


@pytest.mark.system
def test_a_signal_without_a_change_says_that_nothing_differs(edge, tmp_path):
    certified(tmp_path, "first")
    process = edge(TLS.format("first"))
    until(tmp_path, "listening on")
    process.send_signal(signal.SIGHUP)
    until(tmp_path, "reloaded: nothing that differs")
    assert "reloaded: tls" not in (tmp_path / "log").read_text()


def test_new_limits_hold_for_whoever_comes_then():
    connections = Connections(EdgeLimits())
    before = connections.accounts.of("a", certified=False)
    connections.limits = EdgeLimits(connections=1, per_address=1, idle_messages=5)
    after = connections.accounts.of("b", certified=False)
    assert (before.budget.most, after.budget.most) == (1000, 5)
