"""`device.toml`: every mistake names the file, the field, what was found and what was expected."""

import pytest

from artefacts import ArtefactError, read_json
from controller.daemon.configuration.settings import (
    DeviceSettings,
    read_edge_settings,
    read_settings,
    readable_secrets,
)
from controller.link.secure import TlsFiles

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
        (HEAD + '[grpc]\nport = "8701"\n', "grpc.port", "found text, expected a whole number"),
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
def test_paths_that_no_file_can_have_are_refused_where_they_are_read(tmp_path, named):
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
def test_a_daemon_refuses_places_that_cannot_be_in_one_line(forked, tmp_path, more, said):
    (tmp_path / "device.toml").write_text(HEAD + more)
    done = forked("coinfer.cli.main", "device", "--config", "device.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


ABSURD = "9" * 4000


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (f"[http]\nport = {ABSURD}\n", "http.port"),
        ("[http]\nport = -2\n", "http.port"),
        ("[http]\nport = -1\n", "http.port"),
        (f"[limits]\nlive_frames = {ABSURD}\n", "limits.live_frames"),
        (f"[limits]\nbody_s = {ABSURD}\n", "limits.body_s"),
        ("[limits]\nbody_s = nan\n", "limits.body_s"),
        ("[limits]\nidle_s = inf\n", "limits.idle_s"),
        (f"[probes]\nbytes_each = -{ABSURD}\n", "probes.bytes_each"),
        (f"[tracing]\nshare = 1{'0' * 400}.0\n", "tracing.share"),
    ],
)
def test_absurd_numbers_of_a_device_are_one_short_line(tmp_path, more, field):
    with pytest.raises(ArtefactError) as error:
        read(tmp_path, f'format_version = 1\nscenario = "lte-mobilenet"\n{more}')
    assert f"field '{field}'" in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (f"port = {ABSURD}\n", "port"),
        (f"threads = -{ABSURD}\n", "threads"),
        (f"[limits]\nconnections = {ABSURD}\n", "limits.connections"),
        ("[limits]\nlongest_s = inf\n", "limits.longest_s"),
        ("[limits]\nidle_s = nan\n", "limits.idle_s"),
        ("[limits]\nidle_s = 1e300\n", "limits.idle_s"),
        ("[schedule]\nbatch_wait_s = 1e12\n", "schedule.batch_wait_s"),
        (f"[schedule]\nwaiting = {ABSURD}\n", "schedule.waiting"),
    ],
)
def test_absurd_numbers_of_an_edge_are_one_short_line(tmp_path, more, field):
    path = tmp_path / "edge.toml"
    path.write_text(f'format_version = 1\nmodels = ["alexnet"]\n{more}')
    with pytest.raises(ArtefactError) as error:
        read_edge_settings(path)
    assert f"field '{field}'" in str(error.value)
    assert len(str(error.value)) < 400


TLS = (
    'format_version = 1\nscenario = "lte-mobilenet"\n[tls]\nauthority = "ca.pem"\n'
    'certificate = "a.pem"\nkey = "{key}"\n'
)


def test_a_key_may_be_a_credential_of_systemd(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ArtefactError, match="found 'credential:key' and no CREDENTIALS_DIRECTORY"):
        read(tmp_path, TLS.format(key="credential:key"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    found = read(tmp_path, TLS.format(key="credential:key"))
    assert found.tls.key == str(tmp_path / "given" / "key")
    assert found.tls.certificate == str(tmp_path / "a.pem")
    for name in ("../key", "", "/etc/key"):
        with pytest.raises(ArtefactError, match="it names a file"):
            read(tmp_path, TLS.format(key=f"credential:{name}"))


def test_a_key_that_others_can_read_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    key = tmp_path / "a.key"
    files = TlsFiles(key=str(key), token=str(tmp_path / "absent"))
    assert not readable_secrets(files)
    key.write_text("")
    for mode, who in ((0o600, None), (0o400, None), (0o640, "its group"), (0o604, "everybody")):
        key.chmod(mode)
        said = readable_secrets(files)
        assert len(said) == (who is not None)
        if who:
            assert f"open to {who} (mode {mode:04o}), expected 0600" in said[0]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert not readable_secrets(files)
