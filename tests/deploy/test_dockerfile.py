"""The Dockerfile: what it copies is there, what it makes runs for anybody; and built, if possible.

A build needs docker or podman, and a base image (COINFER_PYTHON_IMAGE, else the registry's).
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from coinfer.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
BUILD_LIMIT_S = 1500
TARGETS = ("edge", "device")


def sent(name):
    """Whether a path of the checkout goes to the build: the last rule that fits decides."""
    answer = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        parts = [Path(name), *Path(name).parents]
        anywhere = pattern.startswith("**/")
        names = [part.name if anywhere else str(part) for part in parts]
        if any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in names):
            answer = rule.startswith("!")
    return answer


def test_what_is_copied_is_there_and_is_all_that_is_packaged(stages, words):
    copied = [
        source
        for name, rest in stages["build"].own if name == "COPY"
        for source in words(rest)[:-1]
    ]  # fmt: skip
    assert all((ROOT / source).exists() for source in copied)
    assert all(sent(source) for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = project["tool"]["setuptools"]["packages"]["find"]["include"]
    wanted = {room.rstrip("*") for room in rooms} | {"pyproject.toml", "constraints.txt"}
    wanted |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert set(copied) == wanted


@pytest.mark.parametrize("name", ["tests", "docs", "deploy", ".git", "runs", ".venv", "x.key"])
def test_nothing_else_is_sent(name):
    assert not sent(name)
    assert sent("models/facts/cards.py")
    assert not sent("models/__pycache__")


def test_what_is_installed_is_pinned_and_no_extra(stages):
    (install,) = [rest for _, rest in stages["build"].own if "pip install" in rest]
    assert "--constraint constraints.txt ." in " ".join(install.split())
    assert "[" not in install


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_runs_for_anybody_and_says_how_it_is(target, inherited):
    found = inherited(target)
    users = [rest for name, rest in found if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    last = max(k for k, (name, _) in enumerate(found) if name == "USER")
    assert not any(name in ("RUN", "COPY", "ADD") for name, _ in found[last:])
    assert ("STOPSIGNAL", "SIGTERM") in found
    environment = " ".join(rest for name, rest in found if name == "ENV")
    assert "ORT_DISABLE_TELEMETRY=1" in environment
    (cache,) = re.findall(r"COINFER_CACHE=(\S+)", environment)
    assert ("VOLUME", json.dumps([cache])) in found
    assert any(name == "RUN" and "-m 1777" in rest and cache in rest for name, rest in found)


@pytest.mark.parametrize("target", TARGETS)
def test_what_it_runs_are_commands_of_ours_without_a_shell(target, inherited):
    found = dict(inherited(target))
    assert json.loads(found["ENTRYPOINT"]) == ["coinfer"]
    known = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    command = json.loads(found["CMD"])
    assert command == [target, "--config", f"/etc/coinfer/{target}.toml"]
    asked = json.loads(found["HEALTHCHECK"].partition("CMD")[2])
    assert asked == ["coinfer", "health", *command]
    assert {command[0], asked[1]} <= known


def test_no_machine_is_meant():
    text = DOCKERFILE.read_text()
    said = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert not re.search(r"amd64|arm64|x86|aarch64|--platform", said)
    assert "linux/amd64,linux/arm64" in text


def engine():
    """Docker or podman, where it works and the base image can be had; else a skip."""
    image = os.environ.get("COINFER_PYTHON_IMAGE")
    if image is None:
        (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    named = os.environ.get("COINFER_CONTAINER_ENGINE")
    for command in [named.split()] if named else [["docker"], ["podman"]]:
        if shutil.which(command[0]) is None or not works(command, "info"):
            continue
        if works(command, "image", "inspect", image) or works(command, "pull", "--quiet", image):
            return command, image
        pytest.skip(f"{command[0]} cannot pull {image}")
    pytest.skip("needs docker or podman, and one that works")


def works(command, *argv):
    try:
        done = subprocess.run([*command, *argv], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@pytest.mark.timeout(BUILD_LIMIT_S + 300)
@pytest.mark.parametrize("target", TARGETS)
def test_it_builds_and_runs_read_only_for_a_user_nobody_knows(target):
    command, image = engine()
    more = os.environ.get("COINFER_BUILD_OPTIONS", "").split()
    if command[0] == "podman":
        more += ["--format", "docker"]  # the other one has no HEALTHCHECK
    name = f"coinfer-{target}-test"
    argv = [*command, "build", *more, "--build-arg", f"PYTHON_IMAGE={image}", "--target", target,
            "--file", str(DOCKERFILE), "--tag", name, str(ROOT)]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    reported = subprocess.run([*command, "image", "inspect", name], capture_output=True, check=True)
    config = json.loads(reported.stdout)[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["coinfer"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    run = [*command, "run", "--rm", "--read-only", "--network", "none", "--user", "23456:34567"]
    done = subprocess.run([*run, name, "--help"], capture_output=True, text=True, check=False)
    if "OCI" in done.stderr:
        pytest.skip(f"built; containers cannot be run here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*run, name], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"/etc/coinfer/{target}.toml" in done.stderr
