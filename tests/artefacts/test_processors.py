"""Processors that a process may use: affinity of real processes, control groups from files."""

import contextlib
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import usable_cpus

pytestmark = pytest.mark.system

PINNED = len(os.sched_getaffinity(0))
V2_ROOT = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
MOST = max(PINNED, 1)


@pytest.fixture
def machine(tmp_path):
    """`machine(cgroup, mountinfo, files)`: a root with /proc and control groups of that kind."""

    def made(cgroup, mountinfo, files):
        own = tmp_path / "proc" / "self"
        own.mkdir(parents=True)
        (own / "cgroup").write_text(cgroup)
        (own / "mountinfo").write_text(mountinfo)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return made


@pytest.fixture
def many(monkeypatch):
    """A process that is pinned to 64 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        ("", "", {}, 64),
        ("0::/\n", V2_ROOT, {"cpu.max": "max 100000\n"}, 64),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "150000 100000\n"}, 2),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "1000 100000\n"}, 1),
        ("0::/a/b/c\n", V2_ROOT, {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", V2_ROOT, {"a/cpu.max": "300000 100000", "a/b/cpu.max": "8000 1000"}, 3),
        ("0::/a/b\n", V2_ROOT, {"a/cpu.max": "800000 100000", "a/b/cpu.max": "3000 1000"}, 3),
        ("0::/a\n", V2_ROOT, {"cpu.max": "500000 100000"}, 5),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "nonsense"}, 64),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "0 100000"}, 64),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "6400000 100000"}, 64),
        ("0::/a\n", V2_ROOT, {"a/cpu.max": "9900000 100000"}, 64),
        # a container that sees its own group as the root, and one whose group lies elsewhere
        ("0::/../x\n", V2_ROOT, {"cpu.max": "200000 100000"}, 2),
        ("0::/docker/1\n", V2_ROOT.replace(" / /sys", " /docker/1 /sys"),
         {"cpu.max": "200000 100000"}, 2),
        ("0::/docker/1/x\n", V2_ROOT.replace(" / /sys", " /docker/1 /sys"),
         {"cpu.max": "400000 100000", "x/cpu.max": "300000 100000"}, 3),
        ("0::/a:b\n", V2_ROOT, {"a:b/cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/a\n", V1_CPU,
         {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
         3),
        ("4:cpu,cpuacct:/a\n0::/\n", V1_CPU + V2_ROOT,
         {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 64),
        ("4:cpu,cpuacct:/a/b\n", V1_CPU,
         {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000",
          "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1"}, 2),
        ("4:cpuset:/a\n", V1_CPU.replace("cpu,cpuacct", "cpuset"),
         {"cpuset/a/cpu.cfs_quota_us": "1", "cpuset/a/cpu.cfs_period_us": "1"}, 64),
    ],
)  # fmt: skip
def test_control_groups_bound_the_count(machine, cgroup, mountinfo, files, expected):
    assert usable_cpus(machine(cgroup, mountinfo, files)) == expected


@pytest.mark.usefixtures("many")
def test_a_mount_whose_path_has_a_space(machine, tmp_path):
    mounted = V2_ROOT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/my\\040groups")
    root = machine("0::/a\n", mounted, {"my groups/a/cpu.max": "200000 100000"})
    assert usable_cpus(root) == 2


@given(st.text(), st.text(), st.text())
def test_whatever_the_files_say_there_is_one_at_least(tmp_path_factory, cgroup, mountinfo, limit):
    root = tmp_path_factory.mktemp("root")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::/\n{cgroup}")
    (root / "proc/self/mountinfo").write_text(f"{V2_ROOT}{mountinfo}")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(limit)
    assert 1 <= usable_cpus(root) <= MOST


@given(st.floats(1e-3, 1e3), st.integers(1000, 1_000_000))
def test_parts_of_a_processor_count_as_a_whole(tmp_path_factory, processors, period_us):
    root = tmp_path_factory.mktemp("root")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "proc/self/mountinfo").write_text(V2_ROOT)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    quota_us = max(1, round(processors * period_us))
    (root / "sys/fs/cgroup/cpu.max").write_text(f"{quota_us} {period_us}\n")
    assert usable_cpus(root) == min(PINNED, math.ceil(quota_us / period_us))


IN_A_GROUP = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'


@pytest.fixture
def granted():
    """Makes a real control group that grants so many processors' time; gives its folder."""
    made = []

    def make(processors):
        for parent, files in (
            ("/sys/fs/cgroup", {"cpu.max": f"{int(1e5 * processors)} 100000"}),
            ("/sys/fs/cgroup/cpu", {"cpu.cfs_quota_us": str(int(1e5 * processors))}),
        ):
            folder = Path(parent) / f"coinfer-test-{os.getpid()}-{len(made)}"
            if not (folder.parent / "cgroup.procs").exists():
                continue  # no control groups, or not of this version
            with contextlib.suppress(OSError):
                folder.mkdir()
                made.append(folder)
                for name, text in files.items():
                    (folder / name).write_text(text)
                return folder
        pytest.skip("needs control groups that it may make")

    yield make
    for folder in made:
        folder.rmdir()


def test_a_real_control_group_bounds_a_real_process(granted):
    if PINNED < 2:
        pytest.skip("needs two processors")
    for processors, expected in ((0.5, "1"), (1.5, "2")):
        done = subprocess.run(
            ["sh", "-c", IN_A_GROUP, "sh", granted(processors), sys.executable, "-c",
             "from artefacts import usable_cpus; print(usable_cpus())"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == expected


THREADS = """
from artefacts import usable_cpus
from models.executors import make_executor
from models.facts.cards import load_model
executor = make_executor("onnx", load_model("alexnet"))
print(usable_cpus(), executor._options.intra_op_num_threads)
"""


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_threads_follow_the_processors_that_a_process_is_pinned_to(tmp_path):
    first = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["taskset", "-c", str(first), sys.executable, "-c", THREADS], capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "1"]


def test_this_process_may_use_what_it_is_pinned_to():
    assert 1 <= usable_cpus() <= PINNED


@pytest.mark.usefixtures("many")
def test_half_of_what_may_be_used_computes(monkeypatch):
    from models.executors import making
    from models.facts.cards import load_model

    model = load_model("alexnet")
    for usable, threads in ((64, 32), (3, 1), (1, 1)):
        monkeypatch.setattr(making, "usable_cpus", lambda usable=usable: usable)
        assert making.make_executor("onnx", model)._options.intra_op_num_threads == threads
