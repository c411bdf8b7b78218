"""`device.toml`: every mistake names the file, the field, what was found and what was expected."""

import subprocess
import sys

import pytest

from artefacts import ArtefactError, read_json
from controller.daemon.settings import DeviceSettings, read_settings

HEAD = 'format_version = 1\nscenario = "3g-alexnet"\n'


def read(tmp_path, text):
    (tmp_path / "device.toml").write_text(text)
    return read_settings(tmp_path / "device.toml")


def test_defaults_and_paths_from_the_file_s_folder(tmp_path):
    found = read(tmp_path, HEAD + 'state = "s.json"\npolicy = "mine"\nedges = ["10.0.0.1:7700"]')
    assert (found.http.host, found.http.port, found.limits.live_frames) == ("127.0.0.1", 8700, 16)
    assert found.state == str(tmp_path / "s.json")
    assert found.policy == str(tmp_path / "mine")
    assert found.map == ""
    assert found.grpc is None
    assert read(tmp_path, HEAD + "[grpc]\nport = 0\n").grpc.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "field", "found"),
    [
        ("", "format_version", "nothing"),
        ("format_version = 2\n", "format_version", "2"),
        (HEAD + "[http]\nports = 1\n", "http", "ports"),
        (HEAD + "[http]\nport = 70000\n", "http.port", "70000"),
        (HEAD + '[http]\nhosts = ["a.lan:80"]\n', "http.hosts", "'a.lan:80'"),
        (HEAD + '[http]\nhosts = ["*"]\n', "http.hosts", "'*'"),
        (HEAD + "[limits]\ndecode_s = 0\n", "limits.decode_s", "0"),
        (HEAD + "[limits]\nlive_frames = 0\n", "limits.live_frames", "0"),
        (HEAD + "[limits]\nlongest_deadline_s = -1.0\n", "limits.longest_deadline_s", "-1"),
        (HEAD + "[limits]\nconnections = 3\n", "limits.connections", "3"),
        (HEAD + "[limits]\nhead_s = nan\n", "limits.head_s", "nan"),
        (HEAD + "[limits]\nidle_s = 0\n", "limits.idle_s", "0"),
        (HEAD + "[limits]\nstalled_s = 1e9\n", "limits.stalled_s", "1e+09"),
        (HEAD + "[grpc]\nport = -1\n", "grpc.port", "-1"),
        (HEAD + '[grpc]\nport = "8701"\n', "grpc.port", "str"),
        (HEAD + 'edges = ["10.0.0.1"]\n', "edges[0]", "'10.0.0.1'"),
        (HEAD + 'edges = ["a:1", "b:0"]\n', "edges[1]", "'b:0'"),
        (HEAD + 'executor = "torch"\n', "executor", "torch"),
        (HEAD + 'log = { level = "loud" }\n', "log.level", "loud"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, field, found):
    with pytest.raises(ArtefactError) as error:
        read(tmp_path, text)
    said = str(error.value)
    assert "device.toml" in said
    assert f"'{field}'" in said
    assert found in said
    assert "\n" not in said


@pytest.mark.parametrize("named", ["a\\u0000b", "loop/x", "x" * 300, "[red]", "\u00e4"])
def test_paths_that_no_file_can_have_are_told_of_where_they_are_read(tmp_path, named):
    (tmp_path / "loop").symlink_to("loop")
    found = read(tmp_path, HEAD + f'policy = "{named}"\nstate = "{named}"\n')
    assert found.policy.startswith(str(tmp_path))
    with pytest.raises(ArtefactError, match="expected a readable file"):
        read_json(found.state, DeviceSettings)


def test_a_byte_order_mark_and_carriage_returns_are_no_mistake(tmp_path):
    plain = read(tmp_path, HEAD)
    path = tmp_path / "device.toml"
    for end in (b"\r\n", b"\r"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", end))
        assert read_settings(path) == plain
        path.write_text(HEAD)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[http]\nport = 0\nsocket = "a\\u0000"\n', "http.socket: '"),
        ('[http]\nport = 0\nsocket = "/dev/null/x"\n', "http.socket: '/dev/null/x': "),
        ('[http]\nport = 0\nhost = "\\u0000"\n', "address: found "),
        ('edges = ["127.0.0.1:1"]\n[tls]\nauthority = "a\\u0000"\n', "expected an authority's PEM"),
        ('edges = ["127.0.0.1:1"]\n[tls]\nauthority = "."\n', "expected an authority's PEM"),
        ('controller = "map"\nmap = "a\\u0000"\n', "expected a readable file"),
    ],
)
def test_a_daemon_refuses_places_that_cannot_be_in_one_line(tmp_path, more, said):
    (tmp_path / "device.toml").write_text(HEAD + more)
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.entry", "device", "--config", "device.toml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
