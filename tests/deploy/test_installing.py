"""What is installed elsewhere: a wheel and a lock with digests, nothing by a name nobody holds."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "deploy" / "requirements.txt"
AUDIT = ROOT / "deploy" / "audit.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SAFE = {
    "pillow": "12.3", "aiohttp": "3.14.3", "cryptography": "50", "onnx": "1.22",
    "onnxruntime": "1.28.1",
}  # fmt: skip
"""The first versions without a hole that is known."""


def locked():
    """{name: (version, digests)} of the lock."""
    found = {}
    for block in re.split(r"\n(?=\S)", LOCK.read_text()):
        if not block.startswith("#"):
            name, _, rest = block.partition("==")
            found[name.lower()] = rest.split()[0], re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)
    return found


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = (line.partition("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in names}


def test_the_lock_is_what_was_tested_with_digests_and_holds_all_that_is_needed():
    found, tested = locked(), pinned()
    assert len(found) > 20
    for name, (version, digests) in found.items():
        assert digests, name
        assert tested.get(name, version) == version, f"{name}: make lock"
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        version, _ = found[wanted.name]
        assert Version(version) in wanted.specifier, f"{wanted.name}: make lock"
    assert "torch" not in found


@pytest.mark.parametrize("name", SAFE)
def test_what_handles_bytes_from_outside_has_no_known_hole(name):
    (wanted,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == name)
    (least,) = (s.version for s in wanted.specifier if s.operator == ">=")
    assert Version(least) >= Version(SAFE[name])


def test_nobody_is_asked_to_install_by_a_name_that_is_not_ours():
    """The one place that names it says why not."""
    for path in (ROOT / "docs").rglob("*.md"):
        text = path.read_text().replace("decides what `pip install coinfer`\nruns, as root", "")
        assert not re.search(r"pip install (-\S+ )*'?coinfer([\['`\s]|$)", text), path.name


def audited(tmp_path, output, code):
    """`audit.py` with a pip-audit that answers so."""
    (tmp_path / "pip_audit.py").write_text(
        f"import sys; print({output!r}); print('ERROR: no such host', file=sys.stderr); "
        f"sys.exit({code})"
    )
    return subprocess.run(
        [sys.executable, AUDIT, LOCK], env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_audit_that_cannot_be_made_is_one_line_and_no_success(tmp_path):
    skipped = {"name": "a", "skip_reason": "not found"}
    for output in ("", json.dumps({"dependencies": [skipped]})):
        done = audited(tmp_path, output, 1)
        assert done.returncode == 2
        assert not done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"audit: {LOCK} could not be checked: ")


def test_a_hole_is_a_line_and_none_is_said(tmp_path):
    clean = {"name": "a", "version": "1", "vulns": []}
    hole = {"id": "CVE-1", "fix_versions": ["2"]}
    done = audited(tmp_path, json.dumps({"dependencies": [clean]}), 0)
    assert (done.returncode, done.stdout) == (0, "audit: 1 packages, 0 known holes\n")
    bad = {"name": "b", "version": "1", "vulns": [hole]}
    done = audited(tmp_path, json.dumps({"dependencies": [clean, bad]}), 1)
    assert done.returncode == 1
    assert "b 1: CVE-1 (mended in 2)" in done.stdout


DATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
SHARED = "share/coinfer/deploy"
NOT_SHARED = {"Dockerfile", "audit.py", "tools.txt"}
"""Of use in a checkout alone."""


def installed():
    """{path in an environment: file here} of what the wheel brings beside the packages."""
    return {
        f"{folder}/{path.name}": path
        for folder, patterns in DATA.items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }


def test_the_wheel_brings_what_a_machine_without_a_checkout_needs():
    found = installed()
    for path in (ROOT / "deploy").rglob("*"):
        if path.is_file() and path.name not in NOT_SHARED:
            assert found.get(f"{SHARED}/{path.relative_to(ROOT / 'deploy')}") == path, path
    assert found[f"{SHARED}/constraints.txt"] == ROOT / "constraints.txt"


def test_pages_name_files_that_are_installed_and_the_version_that_is_made():
    named, versions = set(), set()
    for path in (ROOT / "docs").rglob("*.md"):
        text = path.read_text()
        named |= set(re.findall(r"/opt/coinfer/(share/coinfer/deploy/[\w./-]+\w)", text))
        made = re.findall(r"venv /opt/coinfer-([\d.]+\d)|coinfer-([\d.]+)-py3", text)
        versions |= {one or other for one, other in made}
        # there is no checkout where these run
        assert not re.search(r"^install .* deploy/", text, re.MULTILINE), path
    assert len(named) > 2
    assert named <= set(installed())
    assert versions == {PROJECT["version"]}


@pytest.mark.system
@pytest.mark.parametrize("whole", [True, False], ids=["checkout", "container's context"])
def test_an_environment_holds_them_once_the_wheel_is_installed(tmp_path, whole):
    """An image is built without `deploy`, and needs nothing of it."""
    pytest.importorskip("setuptools", "77", reason="setuptools 77 builds the wheel (make wheel)")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    if whole:
        shutil.copytree(ROOT / "deploy", source / "deploy")
    (source / "coinfer").mkdir()
    (source / "coinfer" / "__init__.py").write_text("")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("coinfer-*.whl")
    data = f"coinfer-{PROJECT['version']}.data/data/"
    with zipfile.ZipFile(wheel) as archive:
        brought = {name.removeprefix(data): archive.read(name) for name in archive.namelist()
                   if name.startswith(data)}  # fmt: skip
    expected = {name: path.read_bytes() for name, path in installed().items()
                if whole or path.parent == ROOT}  # fmt: skip
    assert brought == expected
