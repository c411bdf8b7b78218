"""The compose file and all that it mounts: read, and run as processes on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from coinfer import Client
from controller.daemon.configuration.settings import parse_edge, read_edge_settings, read_settings
from controller.link.addresses import check_address

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DAEMONS = {"edge": "coinfer-edge.service", "device-1": "coinfer-device.service",
           "device-2": "coinfer-device.service"}  # fmt: skip
KEYS = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "environment",
    "healthcheck", "image", "init", "mem_limit", "network_mode", "networks", "pids_limit", "ports",
    "read_only", "restart", "security_opt", "stop_grace_period", "stop_signal", "tmpfs", "user",
    "volumes",
}  # fmt: skip
"""Of a service, those of the compose specification that are used here."""
CONDITIONS = {"service_started", "service_completed_successfully", "service_healthy"}
HAPROXY = shutil.which("haproxy")


def mounts(service):
    """(source, target, how) of a service's volumes."""
    return [(*v.split(":"), "rw")[:3] for v in service.get("volumes", [])]


def test_it_says_only_what_compose_knows_and_names_only_what_is_there(compose, stages):
    assert set(compose) - {k for k in compose if k.startswith("x-")} == {
        "name", "services", "networks", "volumes"
    }  # fmt: skip
    services = compose["services"]
    for name, service in services.items():
        assert set(service) <= KEYS, name
        assert "image" in service, name
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in stages
        for source, target, how in mounts(service):
            assert target.startswith("/")
            assert how in ("ro", "rw")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert how == "ro", source
            else:
                assert source in compose["volumes"], source
        mode = service.get("network_mode", "none")
        assert mode == "none" or mode.removeprefix("service:") in services
        assert not ("network_mode" in service and "networks" in service)
        assert set(service.get("networks", ())) <= set(compose["networks"])
        needed = service.get("depends_on", {})
        assert set(needed) <= set(services)
        if isinstance(needed, dict):
            assert {n["condition"] for n in needed.values()} <= CONDITIONS
    used = {source for s in services.values() for source, *_ in mounts(s)}
    assert set(compose["volumes"]) <= used


def test_who_runs_on_and_with_how_much(compose):
    services = compose["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "certs":
            assert service["restart"] == "unless-stopped", name
            assert "mem_limit" in service, name
            assert "cap_add" not in service
            assert "user" not in service
    for name, unit in DAEMONS.items():
        (limit,) = re.findall(r"^MemoryMax=(\S+)", (DEPLOY / unit).read_text(), re.MULTILINE)
        assert services[name]["mem_limit"] == limit.lower()
        (grace,) = re.findall(r"^TimeoutStopSec=(\d+)", (DEPLOY / unit).read_text(), re.MULTILINE)
        assert services[name]["stop_grace_period"] == f"{grace}s"


def test_nobody_but_the_edge_is_reached_from_other_machines(compose):
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            if name == "edge-metrics":
                assert port.endswith(":7700")  # the edge's namespace
            else:
                assert port.startswith("127.0.0.1:")
    assert compose["networks"]["metrics"] == {"internal": True}


def test_every_configuration_is_accepted_and_breaks_no_rule(compose):
    edge = read_edge_settings(DEPLOY / "compose" / "edge.toml")
    device = read_settings(DEPLOY / "compose" / "device.toml")
    assert edge.tls.given
    assert device.tls.given
    assert not edge.insecure
    assert device.edges == (f"edge:{edge.port}",)
    host, port = parse_edge(edge.metrics, DEPLOY / "compose" / "edge.toml", "metrics")
    check_address(host)
    check_address(device.http.host)
    services = compose["services"]
    assert services["edge-metrics"]["environment"] == {"METRICS_PORT": str(port)}
    assert services["edge-metrics"]["networks"]["link"] == {"aliases": ["edge"]}
    for name in ("device-1", "device-2"):
        reported = services[f"{name}-metrics"]["environment"]
        assert reported == {"METRICS_PORT": str(device.http.port)}
    for name in DAEMONS:
        assert services[name]["network_mode"] == f"service:{name}-metrics"
        written = {target for _, target, how in mounts(services[name]) if how == "rw"}
        assert "/var/cache/coinfer" in written
    kept = {str(Path(device.state).parent), str(Path(device.http.socket).parent)}
    assert kept <= {target for _, target, _ in mounts(services["device-1"])}


def test_no_daemon_holds_the_authority_s_key_or_another_s(compose):
    services = compose["services"]
    holders = {n for n, s in services.items() if any(v[0] == "authority" for v in mounts(s))}
    assert holders == {"certs"}
    for name in DAEMONS:
        own = [m for m in mounts(services[name]) if m[0].endswith("-certs")]
        assert own == [(f"{name}-certs", "/etc/coinfer/certs", "ro")]


def test_prometheus_and_grafana_find_what_there_is(compose):
    services = compose["services"]
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (port,) = re.findall(r"bind :(\d+)", (DEPLOY / "compose" / "metrics.cfg").read_text())
    targets = {t for job in scraped["scrape_configs"] for s in job["static_configs"]
               for t in s["targets"]}  # fmt: skip
    assert targets == {f"{name}-metrics:{port}" for name in DAEMONS}
    for target in targets:
        assert "metrics" in services[target.partition(":")[0]]["networks"]
    assert "metrics" in services["prometheus"]["networks"]
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert set(services["grafana"]["networks"]) & set(services["prometheus"]["networks"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards" / "coinfer.yaml").read_text())[
        "providers"
    ]
    shown = {target: source for source, target, _ in mounts(services["grafana"])}
    assert shown[f"{provider['options']['path']}/coinfer.json"] == "./grafana.json"


def coinfer_on_path():
    """A PATH on which `coinfer` is this code's."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def make_certificates(folder):
    for name in ("authority", "to/edge", "to/device-1", "to/device-2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = {"COINFER_USER": f"{os.getuid()}:{os.getgid()}", "COINFER_AUTHORITY":
           str(folder / "authority"), "COINFER_TO": str(folder / "to"),
           "COINFER_EDGE_HOSTS": "edge 127.0.0.1", "PATH": coinfer_on_path(),
           "PYTHONPATH": str(ROOT)}  # fmt: skip
    return subprocess.run(
        ["sh", DEPLOY / "compose" / "certs.sh"], env=os.environ | own, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    done = make_certificates(folder)
    assert done.returncode == 0, done.stderr
    return folder


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_certificates_are_made_once_and_given_to_whom_they_belong(certificates):
    first = files(certificates)
    done = make_certificates(certificates)
    assert done.returncode == 0, done.stderr
    assert files(certificates) == first
    given = {p.name: {f.name for f in p.iterdir()} for p in (certificates / "to").iterdir()}
    device = {"ca.pem", "device.pem", "device.key"}
    assert given == {
        "edge": {"ca.pem", "edge.pem", "edge.key", "health.pem", "health.key"},
        "device-1": device, "device-2": device,
    }  # fmt: skip
    keys = list((certificates / "to").rglob("*.key"))
    assert len({key.read_bytes() for key in keys}) == len(keys) == 4
    assert all(stat.S_IMODE(key.stat().st_mode) & 0o077 == 0 for key in keys)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(true, what, timeout_s=90.0):
    limit_s = time.monotonic() + timeout_s
    while time.monotonic() < limit_s:
        found = true()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {timeout_s:g} s")


class Machine:
    """A service's daemon as a process: the same files, addresses and places of this machine."""

    def __init__(self, kind, folder, certs, changed):
        self.kind, self.folder, self.config = kind, folder, folder / f"{kind}.toml"
        folder.mkdir()
        text = (DEPLOY / "compose" / f"{kind}.toml").read_text()
        for before, after in changed.items():
            assert before in text, before
            text = text.replace(before, after)
        self.config.write_text(text)
        (folder / "certs").symlink_to(certs)
        self.process = self._coinfer(kind)

    def _coinfer(self, *argv):
        return subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.main", *argv, "--config", str(self.config)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def healthy(self):
        assert self.process.poll() is None, self.process.stdout.read()
        with self._coinfer("health", self.kind) as asked:
            said = asked.stdout.read()
        return said if asked.returncode == 0 else ""

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=30)
        return said


@pytest.fixture
def machines(tmp_path, certificates):
    """One edge and two devices, with the files of the compose file."""
    port, metrics = free_port(), free_port()
    found = {"edge": Machine(
        "edge", tmp_path / "edge", certificates / "to" / "edge",
        {"0.0.0.0": "127.0.0.1", "7700": str(port), "9700": str(metrics)},
    )}  # fmt: skip
    for name in ("device-1", "device-2"):
        folder = tmp_path / name
        http = free_port()
        found[name] = Machine(
            "device", folder, certificates / "to" / name,
            {"edge:7700": f"127.0.0.1:{port}", "/var/lib/coinfer": str(folder),
             "/run/coinfer": str(folder), "8700": str(http)},
        )  # fmt: skip
        found[name].metrics = http
    found["edge"].metrics = metrics
    yield found
    for one in found.values():
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.process.stdout.close()


def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_one_edge_and_two_devices_meet_over_tls_and_are_well(machines, tmp_path):
    for one in machines.values():
        until(one.healthy, f"{one.folder.name} is healthy")
    assert "answers (TLS)" in machines["edge"].healthy()
    for name in ("device-1", "device-2"):
        with Client(f"unix:{machines[name].folder}/device.sock") as client:
            until(lambda client=client: client.state()["connected"], f"{name} has an edge")
    if HAPROXY is not None:
        check_proxy(machines["edge"].metrics, tmp_path, "coinfer_edge_served")
        check_proxy(machines["device-1"].metrics, tmp_path, "coinfer_edge_connected 1.0")
    for one in reversed(machines.values()):
        said = one.close()
        assert one.process.returncode == 0, said
        assert all(json.loads(line)["level"] for line in said.splitlines())


def check_proxy(metrics_port, folder, wanted):
    """The proxy of a daemon's namespace gives its metrics, and nothing else of it."""
    port = free_port()
    text = (DEPLOY / "compose" / "metrics.cfg").read_text()
    path = folder / f"metrics-{port}.cfg"
    path.write_text(text.replace("bind :9464", f"bind 127.0.0.1:{port}"))
    proxy = subprocess.Popen(
        [HAPROXY, "-db", "-f", path], env=os.environ | {"METRICS_PORT": str(metrics_port)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def there():
            try:
                return fetched(f"http://127.0.0.1:{port}/metrics")
            except OSError:
                return None

        status, said = until(there, "the proxy listens")
        assert status == 200
        assert wanted in said
        for other in ("/", "/live", "/v2", "/metrics/x", "/infer"):
            assert fetched(f"http://127.0.0.1:{port}{other}")[0] == 403
    finally:
        proxy.terminate()
        proxy.wait()


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_the_proxy_s_file_is_one():
    done = subprocess.run(
        [HAPROXY, "-c", "-f", DEPLOY / "compose" / "metrics.cfg"], capture_output=True, text=True,
        check=False, env=os.environ | {"METRICS_PORT": "8700"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
