"""`coinfer evaluate` and `coinfer report` together, and mistakes on their command lines."""

import json

import pytest

from artefacts import CoinferError
from coinfer.cli.main import app

pytestmark = pytest.mark.slow  # whole commands on real evaluations


def test_the_commands_work_together(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setenv("COINFER_DATA", str(tmp_path))
    study = tmp_path / "study.toml"
    study.write_text(
        'format_version = 1\ntitle = "T"\n[[evaluations]]\nname = "a"\nscenario = "3g-alexnet"\n'
        'controllers = ["device-only"]\n'
    )
    out = tmp_path / "results"
    made = CliRunner().invoke(
        app, ["evaluate", str(study), "--out", str(out), "--frames", "20", "--json"]
    )
    assert made.exit_code == 0, made.output
    (reported,) = json.loads(made.stdout)
    assert reported["frames"] == 20
    assert set(reported["controllers"]) == {"device-only", "learned"}
    done = CliRunner().invoke(
        app, ["report", "--results", str(out), "--out", str(tmp_path / "r.html"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == [str(tmp_path / "r.html")]
    text = (tmp_path / "r.html").read_text()
    assert f"coinfer evaluate {study} --frames 20 --out {out}" in text
    assert f"coinfer report --results {out}" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("evaluate", "--out", "x"), "found neither, expected a study's file or --scenario"),
        (("evaluate", "s.toml", "--scenario", "edgent", "--out", "x"), "found both"),
        (("evaluate", "s.toml", "--policy", "p", "--out", "x"), "found it beside a study"),
        (("evaluate", "s.toml", "--out", "x"), "s.toml: found no such file"),
        (("evaluate", "--scenario", "mars", "--out", "x"), "found 'mars'"),
        (("report", "--results", "nowhere", "--out", "r.html"), "found no such folder"),
    ],
)
def test_mistakes_on_the_command_line(argv, said, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, list(argv))
    assert isinstance(done.exception, CoinferError)
    assert said in str(done.exception)
    assert not list(tmp_path.iterdir())
