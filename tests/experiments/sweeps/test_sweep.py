"""Sweeps: what is a cell, what stays on disk, and what survives deaths of drivers, workers, nodes.

Cells are real trainings, tiny ones, on logs of six seconds that stand where the real ones would.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import stable_baselines3
from hypothesis import given
from hypothesis import strategies as st

from artefacts import ArtefactError, DependencyError, UsageError
from controller.policies.network import load_policy
from controller.scenarios import SHIPPED, load_setting, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.learning.training import TrainArgs
from experiments.sweeps import cell as cell_module
from experiments.sweeps import local
from experiments.sweeps.bundle import pack, unpacked
from experiments.sweeps.cell import run_cell
from experiments.sweeps.definition import EvaluationSection, Sweep, argument_types, read_sweep
from experiments.sweeps.driver import run_sweep
from experiments.sweeps.grid import basis, cell_id, combinations, expand, make_cell
from experiments.sweeps.local import run_local
from experiments.sweeps.on_ray import run_on_ray
from experiments.sweeps.results import Store
from experiments.sweeps.runners import MAX_ATTEMPTS, Done
from models.facts.cards import SHIPPED as MODELS
from traces.library import FOLDERS, read_split

ROOT = Path(__file__).resolve().parents[3]
LOG_S = 6.0
DEFINITION = """
format_version = 1
scenarios = ["3g-alexnet"]
seeds = [0, 1]
frames = {frames}
[grid]
learning_rate = [1e-3, 1e-2]
# so near-sighted a planning leaves training something to learn
planning_sweeps = [1]
planning_backlogs = [4]
hidden = [8]
lanes = {lanes}
steps = [32]
batch = [512]
epochs = [1]
validations = [1]
validation_frames = [100]
blind_s = [0.5]
[evaluation]
max_frames = 50
"""
CELLS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder that looks like the real data: every log of two families, six seconds long."""
    root = tmp_path_factory.mktemp("data")
    for family in ("norway", "belgium"):
        split = read_split(family)
        folder = root / "traces" / FOLDERS[family]
        for file in (*split.train, *split.validation, *split.test):
            rates = np.random.default_rng(zlib.crc32(file.file.encode())).uniform(2e5, 4e6, 6)
            (folder / file.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.file).write_text(as_log(rates))
    return root


def as_log(rates_bps):
    """Rates of seconds as the public logs have them: six columns, bytes and ms of every row."""
    rows = (f"{1285837000 + k} {1000 * k} 0 0 {r / 8:.0f} 1000" for k, r in enumerate(rates_bps))
    return "\n".join(rows) + "\n"


@pytest.fixture
def here(data, monkeypatch):
    """This process finds those logs too."""
    monkeypatch.setenv("COINFER_DATA", str(data))


def definition(folder, frames=2048, lanes="[32]", extra=""):
    path = folder / "sweep.toml"
    path.write_text(DEFINITION.format(frames=frames, lanes=lanes) + extra)
    return path


def started(*argv, data, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "sweep", *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"COINFER_DATA": str(data), "OMP_NUM_THREADS": "2"},
        # a shell's background jobs, these tests perhaps among them, are deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True, **options,
    )  # fmt: skip


def ended(process, timeout_s=120):
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)


def swept(*argv, data):
    return ended(started(*argv, data=data))


def until(true, what, timeout_s=120.0):
    """Poll for what other processes do."""
    limit_s = time.monotonic() + timeout_s
    while time.monotonic() < limit_s:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {timeout_s:g} s")


def finished(out):
    return sorted((out / "cells").glob("*/result.json"))


def rows_of(out, name="results"):
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def rewards_of(out):
    return [row["validation_mean_reward"] for row in rows_of(out)]


def read_of(pid, name):
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def parents():
    """Every process that is no zombie, and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = read_of(entry.name, "stat").rpartition(b") ")[2].split()
            if len(stat) > 1 and stat[0] != b"Z":
                found[int(entry.name)] = int(stat[1])
    return found


def workers_of(driver):
    """Processes that run cells for a driver (its resource tracker runs none)."""
    ours = [pid for pid, parent in parents().items() if parent == driver]
    return [pid for pid in ours if b"spawn_main" in read_of(pid, "cmdline")]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A sweep of four cells that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = swept(definition(folder), "--out", folder / "out", "--jobs", 2, "--json", data=data)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, out=folder / "out", said=json.loads(done.stdout))


def test_a_sweep_gives_a_row_a_cell_and_a_row_a_trace(whole, here):
    rows = rows_of(whole.out)
    assert [(r["seed"], r["learning_rate"]) for r in rows] == [
        (0, 1e-3), (0, 1e-2), (1, 1e-3), (1, 1e-2)
    ]  # fmt: skip
    assert set(argument_types(TrainArgs)) <= set(rows[0])
    for row in rows:
        assert row["hidden"] == 8
        assert (row["algorithm"], row["status"], row["attempts"]) == ("ppo", "finished", 1)
        assert row["validation_traces"] == "real norway logs (validation split)"
        assert row["host"] == os.uname().nodename
        assert row["train_s"] > 0
        assert row["error"] is None
        assert not any(name.startswith("test_") for name in row)
        traces = [t for t in rows_of(whole.out, "traces") if t["cell"] == row["cell"]]
        assert len(traces) == len(read_split("norway").validation)
        assert all(t["frames"] == 50 and t["part"] == "validation" for t in traces)
        mean = sum(t["mean_reward"] for t in traces) / len(traces)
        assert row["validation_mean_reward"] == pytest.approx(mean)
    assert len({r["validation_mean_reward"] for r in rows}) > 1
    assert [r["cell"] for r in whole.said["rows"]] == [r["cell"] for r in rows]
    assert whole.said["skipped"] == 0


def test_what_a_row_says_is_what_its_policy_earns(whole, here):
    setting = load_setting(read_scenario("3g-alexnet"))
    row = rows_of(whole.out)[2]
    folder = whole.out / "cells" / row["cell"]
    assert load_policy(folder, setting).card.training["seed"] == 1
    factory = ControllerFactory(setting, policy_folder=folder)
    # what choices are made on sees nothing of what figures are reported on
    validation = setting.traces("validation")
    found = compare(setting, validation, ["learned"], factory, max_frames=50, half="policy")
    figures = found.controllers["learned"]
    assert row["validation_mean_reward"] == figures.reward
    assert row["validation_late_share"] == figures.late_share
    assert row["validation_share_of_bound"] == figures.share_of_bound
    reported = compare(setting, validation, ["learned"], factory, max_frames=50)
    assert row["validation_mean_reward"] != reported.controllers["learned"].reward


def test_going_on_skips_what_is_finished_and_redoes_what_is_half_written(whole, data, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole.out, out)
    half, *others = finished(out)
    half.unlink()
    (half.parent / "policy.npz").write_bytes(b"half")
    (out / "results.parquet").unlink()
    before = {path: path.stat().st_mtime_ns for path in others}
    done = swept(definition(tmp_path), "--out", out, data=data)
    assert done.returncode == 0, done.stderr
    assert "3 of 4 cells were finished before and are skipped" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in others} == before
    again, same = (
        folder / "cells" / half.parent.name / "policy.npz" for folder in (out, whole.out)
    )
    assert again.read_bytes() == same.read_bytes()
    assert [r["cell"] for r in rows_of(out)] == [r["cell"] for r in rows_of(whole.out)]


def test_a_driver_that_is_killed_leaves_tables_and_no_process(whole, data, tmp_path):
    path, out = definition(tmp_path), tmp_path / "out"
    driver = started(path, "--out", out, "--jobs", 2, data=data)
    try:
        until(lambda: (out / "results.parquet").exists() and rows_of(out), "a first cell")
        workers = workers_of(driver.pid)
        assert 1 <= len(workers) <= 2
    finally:
        driver.send_signal(signal.SIGKILL)
        ended(driver)
    until(lambda: not any(b"spawn_main" in read_of(w, "cmdline") for w in workers), "no worker")
    kept = len(finished(out))
    assert 1 <= len(rows_of(out)) <= kept
    done = swept(path, "--out", out, "--jobs", 2, data=data)
    assert done.returncode == 0, done.stderr
    assert f"{kept} of {CELLS} cells were finished before and are skipped" in done.stderr
    compared = [{k: v for k, v in r.items() if k[-2:] != "_s"} for r in rows_of(out)]
    assert compared == [{k: v for k, v in r.items() if k[-2:] != "_s"} for r in rows_of(whole.out)]


def test_ctrl_c_ends_at_once_and_keeps_what_is_done(data, tmp_path):
    out = tmp_path / "out"
    long = definition(tmp_path)
    # quick cells first, and then some that would take minutes
    text = long.read_text().replace("frames = 2048\n", "")
    long.write_text(text.replace("[grid]", "[grid]\nframes = [2048, 2000000]"))
    driver = started(long, "--out", out, "--jobs", 2, data=data)
    try:
        until(lambda: (out / "results.parquet").exists() and rows_of(out), "a first cell")
        workers = workers_of(driver.pid)
    finally:
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        done = ended(driver)
    assert done.returncode == 130, done.stderr
    assert f"interrupted: the same command goes on from {out}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    until(lambda: not any(read_of(worker, "cmdline") for worker in workers), "no worker")
    assert 1 <= len(rows_of(out)) < 2 * CELLS


@pytest.fixture
def hearing():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_process_begins_is_raised_once_it_has_begun(hearing):
    begun, struck = [], threading.Event()

    def send():
        struck.wait()
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        with local._as_workers_begin():
            # as where another thread takes it
            struck.set()
            sender.join()
            begun.append(True)
        begun.append(False)
    assert begun == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_worker_that_is_killed_costs_its_own_cell_one_attempt(whole, data, tmp_path):
    out = tmp_path / "out"
    driver = started(definition(tmp_path), "--out", out, "--jobs", 2, data=data)
    try:
        victim, *_ = until(lambda: workers_of(driver.pid), "workers")
        try:
            os.kill(victim, signal.SIGSTOP)  # so that it dies at a cell, not between two
            assert b"\0OMP_NUM_THREADS=1\0" in read_of(victim, "environ")
            until(lambda: finished(out), "a first cell")
        finally:
            os.kill(victim, signal.SIGKILL)
    finally:
        done = ended(driver)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    assert sorted(r["attempts"] for r in rows) == [1] * (CELLS - 1) + [2]
    assert {r["status"] for r in rows} == {"finished"}
    assert rewards_of(out) == rewards_of(whole.out)


def test_a_cell_that_kills_its_workers_is_given_up(here):
    (cell, *_) = expand(made())
    found = []
    thread = threading.Thread(target=lambda: found.extend(run_local([cell], 1)))
    thread.start()
    while thread.is_alive():
        for worker in workers_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.01)
    assert found == [
        Done(cell, {"error": "its process died 4 times, at last by SIGKILL"}, MAX_ATTEMPTS)
    ]


def test_a_cell_that_fails_is_reported_and_the_others_go_on(data, tmp_path):
    path, out = definition(tmp_path), tmp_path / "out"
    text = path.read_text().replace("[0, 1]", "[0]").replace("[1e-3, 1e-2]", "[1e-3]")
    # more than what the observation tells apart: only the training knows
    path.write_text(text.replace("[evaluation]", "most_megabyte = [99.0, 0.0]\n[evaluation]"))
    done = swept(path, "--out", out, "--jobs", 2, data=data)
    assert done.returncode == 1, done.stderr
    rows = rows_of(out)
    failed = [r for r in rows if r["status"] == "failed"]
    assert [r["most_megabyte"] for r in failed] == [99.0]
    assert [r["most_megabyte"] for r in rows if r["status"] == "finished"] == [0.0]
    assert all(r["error"] and "\n" not in r["error"] and r["attempts"] == 1 for r in failed)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("1 cell failed: 3g-alexnet, ppo, seed 0 (")
    assert all(r["cell"] in last and r["error"] in last for r in failed)
    assert "Traceback" not in done.stderr
    again = swept(path, "--out", out, "--json", data=data)
    assert again.returncode == 1
    said = json.loads(again.stdout)
    assert (said["skipped"], said["failed"]) == (1, [r["cell"] for r in failed])


def made(**grid):
    sizes = {
        "frames": (64,), "planning_backlogs": (4,), "planning_sweeps": (20,), "lanes": (2,),
        "steps": (8,), "batch": (16,), "validations": (1,), "validation_frames": (100,),
        "blind_s": (0.5,),
    }  # fmt: skip
    return Sweep(
        scenarios=(read_scenario("3g-alexnet"),),
        seeds=(0,),
        algorithms=("ppo",),
        grid=sizes | grid,
        evaluation=EvaluationSection(),
    )


@pytest.mark.parametrize(("algorithm", "frames"), [("ppo", 0), ("dqn", 256)])
def test_a_cell_trains_by_its_algorithm_as_far_as_it_says(algorithm, frames, here, monkeypatch):
    learned = []

    def noted(model, frames, **options):
        learned.append((type(model).__name__.lower(), frames))
        return learn(model, frames, **options)

    learn = getattr(stable_baselines3, algorithm.upper()).learn
    monkeypatch.setattr(f"stable_baselines3.{algorithm.upper()}.learn", noted)
    sweep = msgspec.structs.replace(made(frames=(frames,)), algorithms=(algorithm,))
    (cell,) = expand(sweep)
    assert cell.label == f"3g-alexnet, {algorithm}, seed 0 ({cell.id})"
    answer = run_cell(msgspec.json.encode(cell))
    assert set(answer) == {"measured", "files"}, answer
    training = json.loads(answer["files"]["policy.json"])["training"]
    assert {name: training[name] for name in cell.args} == cell.args
    assert training["algorithm"] == algorithm
    assert learned == ([(algorithm, frames)] if frames else [])


def test_a_cell_s_error_is_one_line(here, monkeypatch):
    def broken(*_):
        raise RuntimeError("first\n  second")

    monkeypatch.setattr("experiments.learning.training.train_policy", broken)
    (cell,) = expand(made())
    encoded = msgspec.json.encode(cell)
    assert run_cell(encoded) == {"error": "RuntimeError: first second"}


def test_a_cell_refuses_other_logs_than_the_sweep_began_with(here, monkeypatch, tmp_path):
    (cell,) = expand(made())
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    monkeypatch.setattr(cell_module.platform, "node", lambda: "pi")
    assert run_cell(msgspec.json.encode(cell)) == {
        "error": f"cell {cell.id} of scenario '3g-alexnet' on pi: found other profiles, outcomes, "
        "weights or traces, expected those the sweep began with"
    }


def test_a_failure_goes_when_the_cell_succeeds(whole, here, tmp_path):
    (cell,) = expand(made())
    store = Store(tmp_path, [cell])
    store.add(Done(cell, {"error": "no"}, 2))
    assert rows_of(tmp_path)[0]["error"] == "no"
    assert store.load() == Store(tmp_path, [cell]).load() == (cell,)
    kept = finished(whole.out)[0]
    measured = msgspec.json.encode(json.loads(kept.read_text())["measured"])
    store.add(Done(cell, {"measured": measured, "files": {"policy.json": b"{}"}}, 1))
    assert {p.name for p in (tmp_path / "cells" / cell.id).iterdir()} == {
        "policy.json", "result.json"
    }  # fmt: skip
    assert Store(tmp_path, [cell]).load() == ()
    with pytest.raises(ArtefactError, match=r"field 'cell.id': found"):
        shutil.move(tmp_path / "cells" / cell.id, tmp_path / "cells" / "x")
        Store(tmp_path, [msgspec.structs.replace(cell, id="x")]).load()


def test_two_sweeps_do_not_write_into_one_folder(tmp_path):
    with Store(tmp_path, []).locked():
        with pytest.raises(UsageError) as refused:
            with Store(tmp_path, []).locked():
                pass
        assert str(refused.value) == f"{tmp_path}: found another sweep at work in it, expected none"
    with Store(tmp_path, []).locked():
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="expected a folder to write into"):
        with Store(tmp_path / "file", []).locked():
            pass


def test_a_sweep_that_is_broken_off_ends_what_runs(here, tmp_path):
    closed = []

    def run(cells):
        try:
            yield Done(cells[0], {"error": "no"}, 1)
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(made(lanes=(2, 3)), tmp_path, run)
    assert closed == [True]
    assert len(rows_of(tmp_path)) == 1


def test_files_of_one_s_own_travel_with_the_cells(here, tmp_path, data):
    mine = tmp_path / "mine"
    shutil.copytree(MODELS / "alexnet", mine / "model")
    text = (SHIPPED / "3g-alexnet.toml").read_text().replace('"alexnet"', '"model"')
    (mine / "scenario.toml").write_text(text)
    path = definition(tmp_path)
    path.write_text(path.read_text().replace('"3g-alexnet"', '"mine/scenario.toml"'))
    cell, *_ = expand(read_sweep(path))
    bundle = pack([cell])
    shutil.rmtree(mine)
    names = {Path(name).name for name in bundle}
    assert {"card.json", "weights.safetensors", "outcomes.npz"} <= names
    split = read_split("norway")
    assert {f.file for f in (*split.train, *split.validation)} <= names
    assert not {f.file for f in split.test} & names
    with unpacked(bundle, cell) as moved:
        setting = load_setting(moved.scenario)
        assert not setting.traces("train").generated
        assert setting.traces("test").generated
        assert cell_id(moved, basis(setting, moved.evaluation)) == cell.id
        folder = setting.model.folder
    assert not folder.exists()
    assert os.environ["COINFER_DATA"] == str(data)
    with pytest.raises(UsageError):
        load_setting(cell.scenario)


names = st.sampled_from(["learning_rate", "gamma", "entropy", "critic_share"])
values = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3, unique=True)
grids = st.dictionaries(names, values.map(tuple), max_size=3)
seeds = st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True).map(tuple)
algorithms = st.sampled_from([("ppo",), ("dqn",), ("ppo", "dqn")])


def ids(sweep):
    return [
        make_cell(scenario, args, sweep.evaluation, {}).id for scenario, args in combinations(sweep)
    ]


@given(grids, seeds, algorithms, st.randoms(use_true_random=False))
def test_a_grid_is_every_combination_once_in_any_order(grid, seeds, algorithms, random):
    one = msgspec.structs.replace(made(), grid=grid, seeds=seeds, algorithms=algorithms)
    found = [args for _, args in combinations(one)]
    assert len(found) == len(seeds) * len(algorithms) * math.prod(map(len, grid.values()))
    assert [args.seed for args in found] == sorted((a.seed for a in found), key=seeds.index)
    for args in found:
        assert args.algorithm in algorithms
        for name in argument_types(TrainArgs):
            if name in grid:
                assert getattr(args, name) in grid[name]
            elif name not in ("seed", "algorithm"):
                assert getattr(args, name) == getattr(TrainArgs(), name)
    assert len(set(ids(one))) == len(found)
    shuffled = list(grid.items())
    random.shuffle(shuffled)
    other = msgspec.structs.replace(
        one,
        grid={name: tuple(random.sample(v, len(v))) for name, v in shuffled},
        seeds=tuple(random.sample(seeds, len(seeds))),
        algorithms=tuple(random.sample(algorithms, len(algorithms))),
    )
    assert set(ids(other)) == set(ids(one))


def test_an_id_holds_everything_that_decides(here):
    scenario = read_scenario("3g-alexnet")
    setting = load_setting(scenario)
    known = basis(setting, EvaluationSection())
    args = TrainArgs(frames=64)
    plain = make_cell(scenario, args, EvaluationSection(), known)
    others = [
        make_cell(scenario, TrainArgs(frames=64, algorithm="dqn"), EvaluationSection(), known),
        make_cell(scenario, TrainArgs(frames=65), EvaluationSection(), known),
        make_cell(scenario, args, EvaluationSection(max_frames=5), known),
        make_cell(scenario, args, EvaluationSection(seed=5), known),
        make_cell(scenario, args, EvaluationSection(("validation", "test")), known),
        *(make_cell(scenario, args, EvaluationSection(), known | {k: "x"}) for k in known),
    ]
    assert len({c.id for c in (plain, *others)}) == 1 + len(others)
    assert make_cell(scenario, args, EvaluationSection(), known) == plain
    # and where files lie, or that it crossed a border as JSON, decides nothing
    crossed = msgspec.json.decode(msgspec.json.encode(plain), type=type(plain))
    assert crossed == plain
    assert cell_id(crossed, basis(load_setting(crossed.scenario), plain.evaluation)) == plain.id


HEAD = 'format_version = 1\nscenarios = ["edgent"]\nseeds = [0]\n'
KNOWN = ", ".join(n for n in argument_types(TrainArgs) if n not in ("seed", "algorithm"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "[grid]\nlanez = [1]\n",
         f"field 'grid.lanez': found no hyper-parameter 'lanez', expected one of {KNOWN}"),
        (HEAD + "[grid]\nlanes = [1, 2.5]\n",
         "field 'grid.lanes[1]': found 2.5, expected a whole number"),
        (HEAD + "[grid]\nhidden = [[64]]\n",
         "field 'grid.hidden[0]': found [64], expected a whole number"),
        (HEAD + '[grid]\nblind_s = ["never"]\n',
         "field 'grid.blind_s[0]': found 'never', expected a number"),
        (HEAD + 'algorithms = ["ppo", "a2c"]\n',
         "field 'algorithms[1]': found 'a2c', expected 'ppo' or 'dqn'"),
        (HEAD + 'algorithms = ["dqn", "dqn"]\n',
         "field 'algorithms[1]': found 'dqn' again, expected each value once"),
        (HEAD + '[grid]\nalgorithm = ["dqn"]\n',
         "field 'grid.algorithm': found 'algorithm' in the grid, expected 'algorithms' at the top"),
        (HEAD + "[grid]\ngamma = [nan]\n",
         "field 'grid.gamma[0]': found nan, expected a finite number"),
        (HEAD + "[grid]\nlanes = 5\n", "field 'grid.lanes': found 5, expected a list of values"),
        (HEAD + "[grid]\nlanes = []\n",
         "field 'grid.lanes': found an empty list, expected one value or more"),
        (HEAD + "[grid]\ngamma = [1, 1.0]\n",
         "field 'grid.gamma[1]': found 1.0 again, expected each value once"),
        (HEAD + "[grid]\nseed = [1]\n",
         "field 'grid.seed': found 'seed' in the grid, expected 'seeds' at the top"),
        (HEAD + "frames = 5\n[grid]\nframes = [1]\n",
         "field 'grid.frames': found 'frames' at the top too, expected it in one place"),
        (HEAD + "frames = -1\n", "field 'frames': found -1, expected 0 or more"),
        (HEAD + "[grid]\nframes = [0, -1]\n",
         "field 'grid.frames[1]': found -1, expected 0 or more"),
        (HEAD + "[grid]\nlearning_rate = [-1.0]\n",
         "field 'grid.learning_rate[0]': found -1.0, expected more than 0"),
        (HEAD + "[grid]\ngamma = [1.5]\n",
         "field 'grid.gamma[0]': found 1.5, expected 0 to 1"),
        (HEAD + '[evaluation]\nparts = ["train"]\n',
         "field 'evaluation.parts[0]': found 'train', expected validation or test"),
        (HEAD + "[evaluation]\nmax_frames = 0\n",
         "field 'evaluation.max_frames': found 0, expected 1 or more"),
        (HEAD.replace("[0]", "[0, -1]"), "field 'seeds[1]': found -1, expected 0 or more"),
        (HEAD.replace("[0]", "[]"),
         "field 'seeds': found an empty list, expected one value or more"),
        (HEAD + "lanes = 5\n",
         "found Object contains unknown field `lanes`, expected one of format_version, scenarios, "
         "seeds, algorithms, frames, grid, evaluation"),
        (HEAD.replace("= 1", "= 2"), "field 'format_version': found 2, expected 1"),
    ],
)  # fmt: skip
def test_a_definition_that_does_not_fit_is_refused(text, said, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(ArtefactError) as refused:
        read_sweep(path)
    assert str(refused.value).removeprefix(f"{path}").lstrip(",: ") == said


def test_fields_that_training_may_get_are_taken_by_their_type(tmp_path):
    @dataclass(frozen=True)
    class Other:
        algorithm: Literal["ppo", "a2c"] = "ppo"
        seed: int = 0
        epsilon: float = 0.1
        units: tuple[int, ...] = (64,)
        masked: bool = True

    path = tmp_path / "sweep.toml"
    head = HEAD + 'algorithms = ["a2c", "ppo"]\n[grid]\n'
    path.write_text(head + "epsilon = [1]\nunits = [[8, 8], []]\nmasked = [false]\n")
    assert [args for _, args in combinations(read_sweep(path, Other), Other)] == [
        Other("a2c", 0, 1.0, (8, 8), False), Other("a2c", 0, 1.0, (), False),
        Other("ppo", 0, 1.0, (8, 8), False), Other("ppo", 0, 1.0, (), False),
    ]  # fmt: skip
    for line, said in (
        ("masked = [1]", "'grid.masked[0]': found 1, expected true or false"),
        ("units = [64]", "'grid.units[0]': found 64, expected a list, each a whole number"),
    ):
        path.write_text(head + line)
        with pytest.raises(ArtefactError, match=re.escape(said)):
            read_sweep(path, Other)
    path.write_text(HEAD + 'algorithms = ["dqn"]\n')
    with pytest.raises(ArtefactError, match=r"'algorithms\[0\]': found 'dqn', expected 'ppo' or"):
        read_sweep(path, Other)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install -e '\.\[ray\]'"):
        next(run_on_ray([], "127.0.0.1:1"))


def test_a_cluster_that_is_not_there_is_one_line(data, tmp_path):
    path = definition(tmp_path)
    for argv, said in (
        (("--ray", "nowhere"), "found 'nowhere', expected HOST:PORT or [IPV6]:PORT of a cluster's"),
        (("--ray", "127.0.0.1:1"), "found no cluster that answers at 127.0.0.1:1"),
        (("--ray", "127.0.0.1:1", "--jobs", 1), "found --jobs and --ray, expected one of them"),
    ):
        if said.startswith("found no cluster") and find_spec("ray") is None:
            continue
        done = swept(path, "--out", tmp_path / "out", *argv, data=data)
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


class Cluster:
    """Two Ray nodes on this machine, each known by a mark in its processes' environment."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self.marks = {}

    def start(self, name, *argv):
        mark = self.marks[name] = f"COINFER_TEST_NODE={uuid.uuid4()}"
        key, _, value = mark.partition("=")
        env = {k: v for k, v in os.environ.items() if k != "COINFER_DATA"} | {
            key: value,
            "PYTHONPATH": str(ROOT),
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        log = self._folder / f"{name}.log"
        with open(log, "w") as stream:
            subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *argv, "--num-cpus=1",
                 "--disable-usage-stats", "--min-worker-port=0",
                 "--max-worker-port=0", "--object-store-memory=80000000",
                 f"--temp-dir={self._folder}"],
                stdout=stream, stderr=stream, env=env, cwd=ROOT, timeout=60, check=False,
            )  # fmt: skip
        assert "Ray runtime started" in log.read_text(), log.read_text()

    def processes(self, name):
        mark, known = self.marks[name].encode(), parents()
        found = {pid for pid in known if mark in read_of(pid, "environ")}
        # who names itself anew overwrites the mark; its parent still has it
        while more := {pid for pid, parent in known.items() if parent in found} - found:
            found |= more
        return found

    def running(self, name):
        """Whether a task runs on that node now (Ray names its workers so)."""
        return any(b"ray::run_task" in read_of(pid, "cmdline") for pid in self.processes(name))

    def kill(self, name):
        while pids := self.processes(name):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


@pytest.fixture
def cluster():
    if find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install -e '.[ray]')")
    # a socket's path may have 107 letters; pytest's folders leave too few of them
    folder = Path(tempfile.mkdtemp(prefix="cr"))
    found = Cluster(folder)
    try:
        found.start(
            "head",
            "--head",
            "--include-dashboard=false",
            f"--port={found.address.rpartition(':')[2]}",
        )
        found.start("worker", f"--address={found.address}")
        yield found
    finally:
        for name in found.marks:
            found.kill(name)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_sweep_outlives_the_death_of_a_ray_node(cluster, whole, data, tmp_path):
    out = tmp_path / "out"
    driver = started(definition(tmp_path), "--out", out, "--ray", cluster.address, data=data)
    try:
        until(lambda: cluster.running("worker"), "that node at work")
        cluster.kill("worker")
    finally:
        done = ended(driver)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    assert {r["status"] for r in rows} == {"finished"}
    assert sorted(r["attempts"] for r in rows) == [1] * (CELLS - 1) + [2]
    # the nodes' own processes know no logs: these came with the cells
    assert {r["validation_traces"] for r in rows} == {"real norway logs (validation split)"}
    assert rewards_of(out) == rewards_of(whole.out)
    assert cluster.processes("head")


def test_the_shipped_sweeps_are_sweeps():
    shipped = sorted((ROOT / "experiments" / "studies" / "sweeps").glob("*.toml"))
    assert shipped
    for path in shipped:
        assert expand(read_sweep(path))
