"""Audits of many runs: what is kept is not made again, and the page says what was found."""

import pytest

from artefacts import ArtefactError, write_json
from controller.scenarios import load_setting, read_scenario
from controller.scenarios.world import read_world
from experiments.replay import audits
from experiments.replay.audit import STAGES, Audit, StageFigures


def made(controller, measured=0.8, predicted=0.795, median=0.03):
    stages = tuple(StageFigures(name, 40, 0.010, 0.011, 0.001, 0.004) for name in STAGES)
    return Audit(
        "lte-mobilenet", "a-log", controller, 100, 40, median, 0.10, 0.99, 0.995, measured,
        predicted, 0.01, 0.02, stages,
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """A folder in which every run of the plan below has ended already."""
    for controller, measured in (("robust", 0.80), ("learned", 0.85)):
        write_json(
            tmp_path / f"lte-mobilenet-1-{controller}-5s-relay.json", made(controller, measured)
        )
    return tmp_path


def test_runs_that_are_kept_are_not_made_again_and_make_the_page(kept, capsys):
    path = kept / "page.md"
    code = audits.main(
        ["--out", str(kept), "--scenarios", "lte-mobilenet", "--controllers", "robust,learned",
         "--logs", "1", "--seconds", "5", "--method", "relay", "--page", str(path)]
    )  # fmt: skip
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "lte-mobilenet-1-robust-5s", "lte-mobilenet-1-learned-5s"
    ]  # fmt: skip
    assert lines[-1].endswith("3 of 4 bars held; 0 s left")
    text = path.read_text()
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
