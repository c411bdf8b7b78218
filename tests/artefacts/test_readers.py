"""Whatever is read from a place that a user names has a bound, and is a file."""

import ast
import datetime
import os
from pathlib import Path

import pytest

from artefacts import (
    ArtefactError,
    CoinferError,
    UsageError,
    digest_file,
    read_bytes,
    read_text,
)
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.configuration.checks import Credential, check_edge
from controller.link.secure import TlsFiles, client_security, read_token, server_security
from models.facts.cards import load_model
from models.facts.outcomes import read_outcomes
from models.graphs.graph_cache import cached_graph

ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "coinfer")
OWN = {
    "artefacts/errors.py": "what pip noted beside the package",
    "artefacts/files.py": "the bounded readers",
    "artefacts/owners.py": "/proc",
    "artefacts/processors.py": "/proc and /sys",
    "models/networks/measuring/memory.py": "/proc",
    "models/networks/measuring/profiling.py": "/proc",
    "controller/daemon/grpc/messages.py": "what it brings itself",
    "controller/daemon/grpc/build.py": "what it has just written",
    "controller/daemon/grpc/process.py": "/proc",
    "controller/daemon/monitoring/process.py": "/proc",
    "controller/daemon/http/interface.py": "what it brings itself",
    "traces/fetch.py": "what it brings itself",
    "coinfer/documentation/shown.py": "pages of this repository",
}
"""Files that read by themselves, and what."""


def plain_reads(tree):
    """Lines that read a file past the bounded readers."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        method = isinstance(node.func, ast.Attribute)
        if name in ("read_text", "read_bytes") and method:
            yield node.lineno
        if name == "open" and not method:
            modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if not modes or not str(modes[0]).startswith(("w", "a", "x")):
                yield node.lineno


def test_nothing_is_read_past_the_readers_with_a_bound():
    found = {}
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            if lines := [*plain_reads(ast.parse(file.read_text()))]:
                found[file.relative_to(ROOT).as_posix()] = lines
    assert set(found) == set(OWN), found


def test_a_read_past_the_readers_is_noticed():
    text = "a.read_bytes()\nread_bytes(a)\nopen(a)\nopen(a, 'rb')\nopen(a, 'w')\nimage.open(a)\n"
    assert [*plain_reads(ast.parse(text))] == [1, 3, 4]


def endless(path):
    path.touch()
    os.truncate(path, 2**42)


def pipe(path):
    os.mkfifo(path)


def zeros(path):
    path.symlink_to("/dev/zero")


def tls(folder, **named):
    """TLS of files that are there, but for the one that is `path`."""
    for name in ("certificate", "key", "authority"):
        named.setdefault(name, str(folder / "other"))
    (folder / "other").write_text("nothing")
    return TlsFiles(**named)


def edge_toml(folder, path):
    (folder / "edge.toml").write_text(
        f'format_version = 1\nmodels = ["alexnet"]\n[tls]\ncertificate = "{path}"\nkey = "k"\n'
    )
    return folder / "edge.toml"


READERS = {
    "bytes": lambda folder, path: read_bytes(path),
    "text": lambda folder, path: read_text(path),
    "digest": lambda folder, path: digest_file(path),
    "token": lambda folder, path: read_token(path),
    "edge's certificate": lambda f, path: server_security(tls(f, certificate=str(path))),
    "edge's key": lambda f, path: server_security(tls(f, key=str(path))),
    "device's authority": lambda f, path: client_security(tls(f, authority=str(path))),
    "health's certificate": lambda f, path: check_edge(edge_toml(f, path), None, 1.0),
    "outcomes": lambda folder, path: read_outcomes(path),
}


@pytest.mark.parametrize("made", [endless, pipe, zeros])
@pytest.mark.parametrize("reader", READERS)
def test_what_has_no_end_is_one_line(tmp_path, reader, made):
    path = tmp_path / "it"
    made(path)
    said = {endless: r"found .*, expected at most", pipe: "a pipe", zeros: "a device"}[made]
    with pytest.raises(CoinferError, match=said) as refused:
        READERS[reader](tmp_path, path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("made", [endless, pipe, zeros])
@pytest.mark.parametrize("name", ["ca.pem", "ca.key"])
def test_an_authority_that_has_no_end_signs_nothing(tmp_path, name, made):
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    make_authority(tmp_path, now)
    (tmp_path / name).unlink()
    made(tmp_path / name)
    with pytest.raises(ArtefactError, match=rf"{name}: found"):
        make_certificate(tmp_path, "device", "pi", [], 1, now)
    assert not (tmp_path / "pi.key").exists()


@pytest.mark.parametrize("made", [endless, pipe])
@pytest.mark.parametrize("name", ["card.json", "weights.safetensors", "calibration.safetensors"])
def test_a_model_s_files_are_no_longer_than_its_card_says(tmp_path, name, made):
    for file in (ROOT / "models" / "shipped" / "alexnet").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).unlink(missing_ok=True)
    made(tmp_path / name)
    with pytest.raises(ArtefactError, match=rf"{name}: found a (file of more than|pipe)"):
        load_model(tmp_path)


def test_weights_are_read_no_further_than_their_network_has_any(tmp_path):
    for file in (ROOT / "models" / "shipped" / "alexnet").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "weights.safetensors").unlink()
    (tmp_path / "weights.safetensors").touch()
    os.truncate(tmp_path / "weights.safetensors", 10**8)
    with pytest.raises(ArtefactError, match="found a file of more than 2. MiB"):
        load_model(tmp_path)


def test_a_graph_in_the_cache_that_has_no_end_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_CACHE", str(tmp_path))
    cached_graph("d" * 64, "n", lambda: b"graph")
    (kept,) = tmp_path.rglob("*.onnx")
    for made in (endless, pipe):
        kept.unlink()
        made(kept)
        assert cached_graph("d" * 64, "n", lambda: b"another") == b"another"


def test_a_credential_that_is_no_file_is_refused_before_openssl_sees_it(tmp_path):
    pipe(tmp_path / "health.pem")
    (tmp_path / "tower.pem").write_text("nothing")
    named = Credential(tmp_path / "health.pem", tmp_path / "health.pem")
    with pytest.raises((ArtefactError, UsageError)):
        check_edge(edge_toml(tmp_path, tmp_path / "tower.pem"), named, 1.0)
