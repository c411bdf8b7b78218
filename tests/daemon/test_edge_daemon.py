"""`coinfer certs` and `coinfer edge --config`: processes, TLS between them, what is refused."""

import contextlib
import datetime
import functools
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from artefacts import ArtefactError, UsageError
from coinfer import Client
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.configuration.settings import read_edge_settings
from controller.daemon.monitoring.systemd import notify
from models.data.pictures import generated_pictures


@pytest.fixture
def coinfer(forked):
    return functools.partial(forked, "coinfer.cli.main")


def certified(coinfer, folder):
    for argv in (
        ("init",), ("edge", "tower", "--host", "127.0.0.1"), ("device", "pi"),
        ("token", "--out", "token"),
    ):  # fmt: skip
        done = coinfer("certs", *argv, cwd=folder)
        assert done.returncode == 0, done.stderr


def test_a_device_and_an_edge_by_certificates_from_the_command(coinfer, running, tmp_path):
    certified(coinfer, tmp_path)
    (tmp_path / "edge.toml").write_text(
        'format_version = 1\nmodels = ["alexnet"]\nport = 0\nmetrics = "127.0.0.1:0"\n'
        '[tls]\nauthority = "certs/ca.pem"\ncertificate = "certs/tower.pem"\n'
        'key = "certs/tower.key"\n'
    )
    text = (tmp_path / "edge.toml").read_text().replace('metrics = "127.0.0.1:0"\n', "")
    (tmp_path / "edge.toml").write_text(text)
    edge = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "edge", "--config", "edge.toml",
         "--port-file", "port"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = ""
        while "listening on" not in said:
            line = edge.stderr.readline()
            assert line, said
            said += line
        assert "serving alexnet" in said
        port = int(re.search(r":(\d+), TLS", said)[1])
        more = f"""edges = ["127.0.0.1:{port}"]
[tls]
authority = "certs/ca.pem"
certificate = "certs/pi.pem"
key = "certs/pi.key"
"""
        with running(more) as daemon, Client(daemon.address) as client:
            picture = generated_pictures(1, np.random.default_rng(0))[0]
            found = set()

            def asked():
                found.add(client.infer(picture, deadline_s=5.0).where)
                return "edge" in found

            daemon.until(asked)
    finally:
        edge.send_signal(signal.SIGTERM)
        _, rest = edge.communicate(timeout=30)
    assert re.search(r"[1-9]\d* requests served", rest)
    assert edge.returncode == 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_newcomers_without_end_cost_an_edge_neither_its_log_nor_its_metrics(tmp_path):
    metrics = free_port()
    (tmp_path / "edge.toml").write_text(
        f'format_version = 1\nmodels = ["alexnet"]\nport = 0\nmetrics = "127.0.0.1:{metrics}"\n'
        "[limits]\nstrangers = 4\n"
    )
    with (tmp_path / "log").open("w") as log:
        edge = subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.main", "edge", "--config", "edge.toml",
             "--port-file", "port"], cwd=tmp_path, stderr=log, text=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "port").exists() or not (tmp_path / "port").read_text():
            assert time.monotonic() < end
            assert edge.poll() is None
            time.sleep(0.01)
        port = int((tmp_path / "port").read_text().rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                silent = socket.create_connection(("127.0.0.1", metrics), 10)
                stack.enter_context(silent)
            connection = http.client.HTTPConnection("127.0.0.1", metrics, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/metrics")
                assert b"coinfer_edge_served_total 0.0" in connection.getresponse().read()
            assert len(os.listdir(f"/proc/{edge.pid}/task")) < 40
            assert len(os.listdir(f"/proc/{edge.pid}/fd")) < 64
    finally:
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(30) == 0
    said = (tmp_path / "log").read_text().splitlines()
    assert len(said) < 40
    assert any("it had not greeted and others came (" in line for line in said)
    assert any("waited for longest" in line and "like it" in line for line in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format_version = 1\nmodels = []\n", "field 'models'"),
        ('format_version = 1\nmodels = ["alexnet"]\nport = 99999\n', "field 'port'"),
        ('format_version = 1\nmodels = ["alexnet"]\nmetrics = "here"\n', "field 'metrics'"),
        ('format_version = 1\nmodels = ["alexnet"]\n[limits]\nidle_s = 0\n', "limits.idle_s"),
        ('format_version = 1\nmodels = ["alexnet"]\n[limits]\nsize = 0\n', "size"),
        (
            'format_version = 1\nmodels = ["alexnet"]\n[limits]\nstrangers = 0\n',
            "limits.strangers': found 0",
        ),
        (
            'format_version = 1\nmodels = ["alexnet"]\n[limits]\nstrangers = 8\nnewcomers = 9\n',
            "limits.strangers': found 8 beside newcomers = 9, expected newcomers alone",
        ),
        ('format_version = 1\nmodels = ["alexnet"]\n[tls]\nca = "x"\n', "ca"),
    ],
)
def test_a_mistake_in_edge_toml_is_named(tmp_path, text, said):
    (tmp_path / "edge.toml").write_text(text)
    with pytest.raises(ArtefactError) as error:
        read_edge_settings(tmp_path / "edge.toml")
    assert said in str(error.value)
    assert "edge.toml" in str(error.value)


def test_paths_are_seen_from_the_file_s_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "edge.toml").write_text(
        'format_version = 1\nmodels = ["alexnet", "mine"]\n[tls]\nkey = "k"\n'
    )
    found = read_edge_settings(tmp_path / "edge.toml")
    assert found.models == ("alexnet", str(tmp_path / "mine"))
    assert found.tls.key == str(tmp_path / "k")


def test_beyond_loopback_without_tls_is_refused_by_the_command(coinfer, tmp_path):
    (tmp_path / "edge.toml").write_text(
        'format_version = 1\nmodels = ["alexnet"]\nhost = "0.0.0.0"\nport = 0\n'
    )
    done = coinfer("edge", "--config", "edge.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "without TLS nothing else is served" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["edge.toml"]


@pytest.mark.parametrize("name", ["\udcfc", "a\0", "a\nb", "x" * 65])
def test_a_certificate_s_name_can_be_written_in_it(tmp_path, name):
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    make_authority(tmp_path, now)
    with pytest.raises(UsageError, match=r"name: found (.|\n)*, expected at most 64 characters"):
        make_certificate(tmp_path, "device", name, [], 1, now)
    assert sorted(os.listdir(tmp_path)) == ["ca.key", "ca.pem"]
    make_certificate(tmp_path, "device", "\u00e4 [bold] " + "x" * 50, [], 1, now)


def test_a_key_whose_certificate_cannot_be_written_goes_again(tmp_path):
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    (tmp_path / "ca.pem").symlink_to("ca.pem")  # a place where no file can be put
    with pytest.raises(ArtefactError, match="expected"):
        make_authority(tmp_path, now)
    assert os.listdir(tmp_path) == ["ca.pem"]


@pytest.mark.parametrize(
    "host", ["", "a b", "-x.example", "x..y", "a" * 70, "ü.example", "1.2.3.4:7", "300.1.1.1"]
)
def test_a_certificate_is_made_for_names_that_can_be(tmp_path, host):
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    make_authority(tmp_path, now)
    with pytest.raises(UsageError, match="expected an IP address or a DNS name"):
        make_certificate(tmp_path, "edge", "tower", [host], 1, now)
    assert not (tmp_path / "tower.pem").exists()
    make_certificate(tmp_path, "edge", "tower", ["tower.example", "::1", "*.lab"], 1, now)


def test_a_manager_that_reads_nothing_holds_nobody_up(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        done = threading.Event()

        def tell():
            while notify("WATCHDOG=1"):
                pass
            done.set()

        threading.Thread(target=tell, daemon=True).start()
        assert done.wait(20)


@pytest.mark.parametrize("name", ["newcomers", "strangers"])
def test_an_earlier_name_of_a_limit_is_read(tmp_path, name):
    path = tmp_path / "edge.toml"
    path.write_text(f'format_version = 1\nmodels = ["alexnet"]\n[limits]\n{name} = 8\n')
    limits = read_edge_settings(path).limits
    assert (limits.newcomers, limits.strangers) == (8, None)
