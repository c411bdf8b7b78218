"""Sweeps as processes: tables, going on, interrupts, and workers that die."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st
from made_sweeps import made
from sweep_processes import (
    definition,
    ended,
    finished,
    read_of,
    rewards_of,
    rows_of,
    started,
    swept,
    until,
    workers_of,
)

from artefacts import ArtefactError, UsageError
from controller.policies.network import load_policy
from controller.scenarios import SHIPPED, load_setting, read_scenario
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.learning.training_args import TrainArgs
from experiments.sweeps import local
from experiments.sweeps.bundle import pack, unpacked
from experiments.sweeps.definition import argument_types, read_sweep
from experiments.sweeps.driver import run_sweep
from experiments.sweeps.grid import basis, cell_id, expand
from experiments.sweeps.local import run_local
from experiments.sweeps.results import Store
from experiments.sweeps.runners import MAX_ATTEMPTS, Done
from models.facts.cards import SHIPPED as MODELS
from traces.library import read_split

CELLS = 4


def test_a_sweep_gives_a_row_a_cell_and_a_row_a_trace(whole, here):
    rows = rows_of(whole.out)
    assert [(r["seed"], r["learning_rate"]) for r in rows] == [
        (0, 1e-3), (0, 1e-2), (1, 1e-3), (1, 1e-2)
    ]  # fmt: skip
    assert set(argument_types(TrainArgs)) <= set(rows[0])
    for row in rows:
        assert row["hidden"] == 8
        assert (row["algorithm"], row["status"], row["attempts"]) == ("ppo", "finished", 1)
        logs, uneven, _ = row["validation_traces"].partition(" with sub-second variation")
        assert (logs, bool(uneven)) == ("real norway logs (validation split)", True)
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
    shutil.copy(MODELS / "mobilenetv2" / "sizes.npz", mine / "model")  # any such file travels
    text = (SHIPPED / "3g-alexnet.toml").read_text().replace('"alexnet"', '"model"')
    (mine / "scenario.toml").write_text(text)
    path = definition(tmp_path)
    path.write_text(path.read_text().replace('"3g-alexnet"', '"mine/scenario.toml"'))
    cell, *_ = expand(read_sweep(path))
    bundle = pack([cell])
    shutil.rmtree(mine)
    names = {Path(name).name for name in bundle}
    assert {"card.json", "weights.safetensors", "outcomes.npz", "sizes.npz"} <= names
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
