"""What daemons show of themselves beside their work."""

import datetime
import importlib.metadata
import os
import platform
import re
import resource

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from artefacts import ArtefactError
from controller.daemon.configuration.certificates import make_authority, make_certificate
from controller.daemon.monitoring.process import (
    CertificateEnds,
    add_process_metrics,
    certificate_end_s,
)
from controller.link.secure import TlsFiles


def shown(role):
    registry = CollectorRegistry()
    add_process_metrics(registry, role)
    return generate_latest(registry).decode()


def test_the_build_is_named_by_labels():
    for role in ("device", "edge"):
        (line,) = (x for x in shown(role).splitlines() if x.startswith("coinfer_build_info"))
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        assert line.endswith(" 1.0")
        assert labels == {
            "role": role,
            "version": importlib.metadata.version("coinfer"),
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "python": platform.python_version(),
        }


def test_the_process_is_this_one():
    values = dict(re.findall(r"^(process_\w+) (\S+)$", shown("edge"), re.MULTILINE))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert float(values["process_max_fds"]) == soft
    assert 3 <= float(values["process_open_fds"]) <= soft
    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * page
    assert abs(float(values["process_resident_memory_bytes"]) - resident) < 0.2 * resident
    assert float(values["process_cpu_seconds_total"]) > 0
    assert float(values["process_start_time_seconds"]) > 1e9


def test_the_end_of_every_certificate_is_shown(tmp_path):
    now = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    authority = make_authority(tmp_path, now)
    own = make_certificate(tmp_path, "device", "pi", [], 90, now)
    both = tmp_path / "both.pem"
    both.write_bytes(own.read_bytes() + authority.read_bytes())
    registry = CollectorRegistry()
    shown = CertificateEnds(registry)
    shown.loaded(TlsFiles(authority=str(both), certificate=str(own)))
    name = "coinfer_certificate_end_timestamp_seconds"
    ends = {"own": 90, "authority": 3650}
    for which, days in ends.items():
        value = registry.get_sample_value(name, {"certificate": which})
        assert value == (now + datetime.timedelta(days=days)).timestamp()
    shown.loaded(TlsFiles())
    assert name + "{" not in generate_latest(registry).decode(), "they are loaded no more"
    own.write_text("nothing")
    shown.loaded(TlsFiles(authority=str(authority), certificate=str(own)))
    assert registry.get_sample_value(name, {"certificate": "authority"}) is not None
    assert registry.get_sample_value(name, {"certificate": "own"}) is None
    with pytest.raises(ArtefactError, match="found no certificate"):
        certificate_end_s(own)
