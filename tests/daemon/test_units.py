"""The systemd units: that they parse, hide nothing a daemon needs, and end as they should."""

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
HIDING = {"ProcSubset": "pid"}
"""It takes /proc/cpuinfo, /proc/meminfo and control groups' limits away, which size threads."""


def settings(path):
    """{section: [(key, value)]} of a unit file."""
    found, section = {}, None
    for line in path.read_text().splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = found.setdefault(line.strip("[]"), [])
            continue
        key, separator, value = line.partition("=")
        assert separator, f"{path.name}: {line}"
        section.append((key.strip(), value.strip()))
    return found


def test_there_is_one_for_each_daemon():
    assert [path.name for path in UNITS] == ["coinfer-device.service", "coinfer-edge.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_says_what_is_needed_and_hides_nothing(path):
    found = settings(path)
    assert set(found) == {"Unit", "Service", "Install"}
    service = found["Service"]
    given = dict(service)
    for key, value in HIDING.items():
        assert given.get(key) != value
    assert given["Type"] == "notify"
    assert given["Restart"] == "always"
    assert "143" in given["SuccessExitStatus"].split()
    assert given["ExecReload"] == "/bin/kill -HUP $MAINPID"
    families = given["RestrictAddressFamilies"].split()
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} <= set(families)
    command = given["ExecStart"].split()
    assert command[1] in path.name
    assert command[2:] == ["--config", f"/etc/coinfer/{command[1]}.toml"]
    repeated = {key for key, _ in service if [k for k, _ in service].count(key) > 1}
    assert repeated <= {"SystemCallFilter", "Environment", "LoadCredential"}


def test_where_memory_is_short_the_process_of_grpc_ends_and_the_daemon_goes_on():
    service = dict(settings(DEPLOY / "coinfer-device.service")["Service"])
    assert service["OOMPolicy"] == "continue"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_no_fault_with_a_unit(tmp_path, path):
    copy = tmp_path / path.name
    command = settings(path)["Service"]
    (start,) = [value for key, value in command if key == "ExecStart"]
    copy.write_text(path.read_text().replace(start.split()[0], shutil.which("true")))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    own = [line for line in done.stderr.splitlines() if path.stem in line or str(copy) in line]
    assert not own
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_keys_are_loaded_for_the_daemon_alone(path):
    """The socket's group is nobody's way to a key, and a key that is not there stops no start."""
    service = settings(path)["Service"]
    given = [value for key, value in service if key == "LoadCredential"]
    assert given == [f"key:{path.stem}.key", f"token:{path.stem}.token"]  # looked for in credstore
    groups = [value for key, value in service if key in ("Group", "SupplementaryGroups")]
    assert groups == (["coinfer"] if "device" in path.name else [])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_process_that_obeys_no_signal_is_ended(path):
    """A call into C that keeps Python's lock leaves nothing else to end it."""
    service = dict(settings(path)["Service"])
    assert 0 < int(service["WatchdogSec"]) <= 30
    assert 0 < int(service["TimeoutStopSec"]) <= 30
