"""Audits of many runs: what is kept is not made again, and the page says what was found."""

import pytest

from artefacts import ArtefactError
from controller.device.frame import FrameRecord
from controller.plans import device_only
from controller.scenarios import load_setting, read_scenario
from controller.scenarios.world import read_world
from experiments.replay import audits
from experiments.replay.audit import STAGES, Audit, StageFigures
from experiments.replay.device_run import FORMAT_VERSION, RunRecord


def made(controller, measured=0.8, predicted=0.795, median=0.03):
    stages = tuple(StageFigures(name, 40, 0.010, 0.011, 0.001, 0.004) for name in STAGES)
    return Audit(
        "lte-mobilenet", "a-log", controller, 100, 40, median, 0.10, 0.99, 0.995, measured,
        predicted, 0.01, 0.02, stages,
    )  # fmt: skip


ARGS = ["--scenarios", "lte-mobilenet", "--logs", "1", "--seconds", "5", "--method", "relay"]


@pytest.fixture
def kept(tmp_path):
    """A folder in which every run of the plan below has ended already, all frames on the device."""
    setting = load_setting(read_scenario("lte-mobilenet"))
    own = setting.table.index(device_only(setting.spec, 0))
    seconds = float(setting.table.prefix_s[own])
    for controller in ("robust", "learned"):
        frames = tuple(
            FrameRecord(k, own, k * setting.interval_s, seconds, 0, True, "device", 0, 0.9, 0,
                        seconds, None, {}, {"begun": 0.0})
            for k in range(20)
        )  # fmt: skip
        run = RunRecord(
            FORMAT_VERSION, "lte-mobilenet", controller, "drawn", frames, (1.0,) * 20, 0, 0, 0,
            None,
        )  # fmt: skip
        made_of = audits._digest(setting, "lte-mobilenet", controller)
        run.save(tmp_path / f"lte-mobilenet-1-{controller}-5s-relay-{made_of[:8]}.json")
    return tmp_path


def test_runs_that_are_kept_are_not_made_again(kept, capsys):
    path = kept / "page.md"
    argv = ["--out", str(kept), *ARGS, "--controllers", "robust,learned", "--page", str(path)]
    assert audits.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "lte-mobilenet-1-robust-5s", "lte-mobilenet-1-learned-5s"
    ]  # fmt: skip
    assert lines[-1].endswith("0 s left")
    assert "| robust | 20 | " in path.read_text()


def test_a_run_is_of_its_scenario_and_its_policy():
    camera, other = (load_setting(read_scenario(n)) for n in ("lte-mobilenet", "3g-mobilenet"))
    made_of = {audits._digest(camera, "lte-mobilenet", c) for c in ("robust", "learned")}
    assert len(made_of) == 2
    assert audits._digest(other, "3g-mobilenet", "robust") not in made_of
    rules = {audits._digest(camera, "lte-mobilenet", c) for c in ("robust", "rate-rule")}
    assert len(rules) == 1, "the scenario alone"


def test_the_page_says_what_was_found():
    plan = audits.Plan(("lte-mobilenet",), ("robust", "learned"), 1, 5.0, "relay")
    found = [("a", made("robust", 0.80)), ("b", made("learned", 0.85))]
    text = audits.page(plan, found, "the command")
    assert "median error of latency in 2 of 2 runs" in text
    assert "goodput accuracy in 1 of 2 runs" in text
    assert "| learned | edge compute | 40 | 10.0 ms | 11.0 ms | 1.0 ms | 4.0 ms |" in text
    order = text[text.index("## Order of the controllers") :]
    assert order.index("| learned | 85.00 % | 79.50 % |") < order.index("| robust | 80.00 % |")


def test_the_world_of_the_machine_that_stands_in_takes_the_scenario_s_place(tmp_path):
    path = tmp_path / "here.toml"
    path.write_text("[world.device]\noverhead_s = 0.0006\n")
    with pytest.raises(ArtefactError, match=r"here.toml.*likeness.*found 2"):
        path.write_text("[world]\nlikeness = 2.0\n")
        read_world(path)
    path.write_text("[world.device]\noverhead_s = 0.0006\n")
    camera = load_setting(read_scenario("lte-mobilenet"))
    found = audits._here(camera, path).scenario.world
    assert found.expected["overheads_s"] == (0.0006, 0.0)
    assert found.scene_s == camera.scenario.world.scene_s
    assert audits._here(camera, None) is camera
    assert "takes 0.60 ms on the device and 0.00 ms on the edge" in audits._of_world(path)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["--scenarios", "mars"], "found 'mars'"), (["--logs", "0"], "found '0'"),
     (["--seconds", "nan"], "found 'nan'"), (["--world", "absent.toml"], "absent.toml: found no")],
)  # fmt: skip
def test_a_mistake_is_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        audits.main(["--out", str(tmp_path), *argv])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
