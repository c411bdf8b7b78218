"""`device.toml`: every mistake names the file, the field, what was found and what was expected."""

import pytest

from artefacts import ArtefactError
from controller.daemon.settings import read_settings

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
