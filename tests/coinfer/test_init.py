"""`coinfer init`: a module and pictures become a folder in which everything else starts."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from artefacts import ArtefactError, UsageError
from coinfer import Client
from coinfer.cli.app import app
from coinfer.cli.learning.begun import Begun, ModelAnswers, WorldAnswers
from coinfer.cli.learning.first_scenario import frames_of, remarks
from coinfer.cli.learning.init_questions import Questions, answered
from coinfer.cli.running.ask import read_sample
from controller.scenarios import load_setting, read_scenario
from models.facts.profiles import read_profile, write_profile

ROOT = Path(__file__).parents[2]
FACTORY = """
    import torch
    from torch import nn

    def make():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
        )
        module.classes = ["dark", "bright"]
        return module
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(textwrap.dedent(FACTORY))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = rng.integers(0, 100, (120, 24, 32, 3)) + 120 * y[:, None, None, None]
    np.savez(tmp_path / "pictures.npz", x=x.astype(np.uint8), y=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    # which kind of head does best is no matter here: test_head_choice.py
    monkeypatch.setattr("models.networks.brought.exits.head_choice.CHOICE_STEPS", 8)
    yield tmp_path
    sys.modules.pop("my_net", None)


def run(*args):
    return CliRunner().invoke(app, ["init", "my_net:make", *args])


QUICK = ("--data", "pictures.npz", "--exits", "1", "--epochs", "1", "--repeats", "2")


@pytest.mark.slow
def test_a_folder_with_everything_whose_commands_work(here):
    result = run(*QUICK, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout)
    assert found["classes"] == ["dark", "bright"]
    assert "published, not measured" in found["device"]
    folder = here / "my_net"
    scenario = read_scenario(folder / "scenario.toml")
    setting = load_setting(scenario)
    assert setting.device.name == "device"
    assert (scenario.traces.family, scenario.traces.scale) == ("belgium", 0.1)
    names = {p.stem for p in (folder / "profiles").iterdir()}
    assert names == {"edge", "device", "pi3", "pi4", "pi5", "jetson-nano", "phone"}
    compare, *_ = found["commands"]
    ran = CliRunner().invoke(app, [*shlex.split(compare)[1:], "--frames", "20"])
    assert ran.exit_code == 0, (ran.output, ran.exception)

    # other answers of the world write the scenario anew, and nothing is trained again
    weights = (folder / "weights.safetensors").stat().st_mtime_ns
    result = run("--device", "pi3", "--link", "3g", "--fps", "1000", "--deadline", "1ms")
    assert result.exit_code == 0, (result.output, result.exception)
    # the profile's table had this machine's times
    assert re.search(r"On pi3 the exits take [\d., ]+ ms, by a published factor\.", result.stdout)
    assert (folder / "weights.safetensors").stat().st_mtime_ns == weights
    scenario = read_scenario(folder / "scenario.toml")
    assert (scenario.frames.rate_fps, scenario.frames.deadline_s) == (1000.0, 0.001)
    assert scenario.traces.family == "norway"

    # what was measured on the device, or written by a person, is kept
    measured = read_profile(folder / "profiles" / "edge.json")
    write_profile(folder / "profiles" / "device.json", measured)
    (folder / "device.toml").write_text((folder / "device.toml").read_text() + "# mine\n")
    result = run("--link", "lte")
    assert "device.json is kept as it is" in result.stderr
    assert "device.toml is kept as it is" in result.stderr
    assert read_profile(folder / "profiles" / "device.json") == measured
    assert read_scenario(folder / "scenario.toml").traces.family == "belgium"

    result = run("--exits", "3")
    assert "--exits: found '3', expected '1', with which 'my_net' was begun" in str(
        result.exception
    )


TOKENS = """
    import torch
    from torch import nn

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.inner = nn.Embedding(50, 16), nn.Linear(16, 16)
            self.end = nn.Linear(16, 3)

        def forward(self, ids):
            return self.end(torch.relu(self.inner(self.table(ids))).mean(1))

    def make():
        return Words()
"""


@pytest.mark.slow
def test_a_network_of_tokens_gets_a_sample_to_ask_with_and_commands_that_work(here):
    (here / "my_net.py").write_text(textwrap.dedent(TOKENS))
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 50, (60, 12))
    np.savez(here / "ids.npz", x=ids, y=ids.sum(1) % 3)
    of_tokens = ("--data", "ids.npz", "--input", "tokens:12:50", "--exits", "0", "--repeats", "2")
    wrong = run(*of_tokens, "--judge", "top-9", "--out", "words")
    assert isinstance(wrong.exception, UsageError), wrong.output
    assert not (here / "words").exists()

    result = run(*of_tokens, "--out", "words", "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout)
    assert found["ask"] == "coinfer ask words/sample.npz --deadline-ms 1000"
    given, picture = read_sample(here / "words" / "sample.npz")
    assert picture is None
    assert given["tokens"].tolist() == ids[0].tolist()
    compare = CliRunner().invoke(app, [*shlex.split(found["commands"][0])[1:], "--frames", "20"])
    assert compare.exit_code == 0, (compare.output, compare.exception)


@pytest.mark.slow
def test_an_interrupted_command_goes_on_where_it_was(here, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as until:
        until.setattr("models.networks.measuring.anchor.anchor_s", interrupted)
        assert run(*QUICK).exit_code != 0
    assert not (here / "my_net" / "device.toml").exists()
    weights = (here / "my_net" / "weights.safetensors").stat().st_mtime_ns
    result = run()  # the answers are there
    assert result.exit_code == 0, (result.output, result.exception)
    assert "it goes on from them" in result.stderr
    assert (here / "my_net" / "weights.safetensors").stat().st_mtime_ns == weights
    assert (here / "my_net" / "device.toml").exists()


def test_what_an_earlier_call_kept_outlives_a_refusal(here, monkeypatch):
    def interrupted(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as until:
        until.setattr("coinfer.cli.learning.models.profile", interrupted)
        assert run(*QUICK).exit_code != 0
    kept = here / "my_net" / "init.json"
    before = kept.read_bytes()
    (here / "pictures.npz").rename(here / "elsewhere.npz")
    refused = run()
    assert isinstance(refused.exception, UsageError | ArtefactError), refused.output
    assert kept.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--data", "none.npz"), "--data: found no 'none.npz', expected a file, a folder or"),
        ((), "--input: found '', expected HEIGHTxWIDTH"),
        (("--data", "pictures.npz", "--input", "24x32"), "beside 'pictures.npz', expected none"),
        (("--input", "24x32", "--device", "pi9"), "--device: found 'pi9', expected pi3, pi4"),
        (("--input", "24x32", "--link", "5g"), "--link: found '5g', expected 3g, lte, wifi or"),
        (("--input", "24x32", "--deadline", "0ms"), "--deadline: found '0ms'"),
        (("--input", "24x32", "--out", "pictures.npz"), "--out: found the file 'pictures.npz'"),
        (("--input", "24x32", "--out", "."), "of something else (my_net.py, pictures.npz)"),
    ],
)
def test_what_cannot_be_meant_is_one_line_before_any_work(here, args, said):
    result = run(*args)
    assert isinstance(result.exception, UsageError), result.output
    assert said in str(result.exception)
    assert not (here / "my_net").exists()


def test_a_name_that_is_no_module_s_leaves_nothing_and_can_be_corrected(here):
    wrong = CliRunner().invoke(app, ["init", "my_net:absent", "--input", "24x32", "--out", "first"])
    assert isinstance(wrong.exception, UsageError), wrong.output
    assert "my_net:absent" in str(wrong.exception)
    assert not (here / "first").exists()


def test_questions_are_asked_again_until_they_can_be_meant(here):
    asked = []
    replies = iter(
        ["pictures.npz", "none", "pi9", "pi5", "wifi", "soon", "12.5", "3 h", "80ms"]
    )  # fmt: skip

    def prompt(text, default, err):
        asked.append((text.partition(" ")[0], default))
        return next(replies)

    begun = answered("my_net:make", {}, {}, None, Questions(True, prompt))
    assert begun.network == ModelAnswers("my_net:make", data="pictures.npz")
    assert begun.world == WorldAnswers("pi5", "wifi", 12.5, 0.08)
    assert [text for text, _ in asked] == [
        "Labelled", "Height", "Which", "Which", "Which", "How", "How", "How", "How",
    ]  # fmt: skip
    # what was given, or answered before, is not asked for
    again = answered("my_net:make", {}, {"link": "3g"}, begun, Questions(True, prompt))
    assert again.world == WorldAnswers("pi5", "3g", 12.5, 0.08)
    quiet = answered("my_net:make", {"data": "pictures.npz"}, {}, None, Questions(False))
    assert quiet == Begun(1, ModelAnswers("my_net:make", data="pictures.npz"), WorldAnswers())


def test_what_the_device_cannot_do_alone_is_said():
    from models.facts.cards import load_model

    profile = read_profile(load_model("mobilenetv2").folder / "profiles" / "pi4-one-core.json")
    asked = WorldAnswers(rate_fps=60.0, deadline_s=0.01)
    falls_behind, late = remarks(asked, profile)
    assert "falls behind at 60 frames/s: exit 1 takes" in falls_behind
    assert "always late" in late
    assert remarks(WorldAnswers(), profile) == []
    assert frames_of(WorldAnswers(rate_fps=7.0), profile)[0] == 7.0


@pytest.mark.slow
@pytest.mark.system
def test_on_a_terminal_to_a_frame_that_the_daemon_answers(here):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COINFER_CACHE": str(here / "cache")}
    start = [sys.executable, "-m", "coinfer.cli.entry"]
    ours, theirs = pty.openpty()
    os.write(ours, b"pictures.npz\nnone\nthis\nlte\n10\n2s\n")
    done = subprocess.run(
        [*start, "init", "my_net:make", "--exits", "1", "--epochs", "1", "--repeats", "2"],
        stdin=theirs, capture_output=True, text=True, timeout=150, env=environment, cwd=here,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert "Which device (pi3, pi4, pi5, jetson-nano, phone, this) [pi4]" in done.stderr
    folder = here / "my_net"
    assert "coinfer device --config my_net/device.toml" in done.stdout
    assert load_setting(read_scenario(folder / "scenario.toml")).scenario.frames.rate_fps == 10.0

    # the files as they are, but for ports that somebody else may have
    edge, device = (folder / "edge.toml").read_text(), (folder / "device.toml").read_text()
    (folder / "edge.toml").write_text(edge.replace("7700", "0"))
    running = []
    try:
        running.append(started([*start, "edge"], "--port-file", here, environment))
        port = running[0][1][0]
        text = device.replace("7700", port).replace("port = 8700", "port = 0")
        (folder / "device.toml").write_text(text)
        running.append(started([*start, "device"], "--ready-file", here, environment))
        with Client(running[1][1][0]) as client:
            answer = client.infer((folder / "frame.jpg").read_bytes(), deadline_s=5.0)
        assert answer.class_name in ("dark", "bright")
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


def started(command, telling, folder, environment):
    """A daemon of the folder that serves, and the lines that it says where by."""
    ready, log = folder / f"ready-{command[-1]}", folder / f"{command[-1]}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--config", f"my_net/{command[-1]}.toml", telling, str(ready)],
            stdout=stream, stderr=stream, cwd=folder, env=environment,
        )  # fmt: skip
    until = time.monotonic() + 60.0
    while not ready.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    if not ready.exists():
        process.kill()
        process.wait()
    assert ready.exists(), log.read_text()
    return process, ready.read_text().splitlines()
