"""The commands as a user types them: real processes, exit codes, one line for a mistake."""

import json
import os
import random
import re
import subprocess
import sys

import pytest
from typer.main import get_command

from coinfer import __version__
from coinfer.cli.main import app
from controller.registry import controller_names
from controller.scenarios import shipped_scenarios


@pytest.fixture
def coinfer(forked):
    """Runs a command; `data` is where its data lies."""

    def run(*argv, data=None, cwd=None):
        env = dict(os.environ)
        if data is not None:
            env["COINFER_DATA"] = str(data)
        return forked("coinfer.cli.main", *argv, cwd=cwd, env=env)

    return run


COMMANDS = tuple(get_command(app).commands)
"""All of them, groups too: as the application itself has them."""


DEPLOYABLE = f"expected one of {', '.join(controller_names(deployable=True))}"


def test_every_command_has_help(coinfer):
    listed = coinfer("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^[│ ]*{name} ", listed, re.MULTILINE), name


def test_the_version_is_the_package_s(coinfer):
    done = coinfer("--version")
    assert (done.returncode, done.stdout) == (0, f"coinfer {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_names_it(coinfer, name):
    done = coinfer(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: coinfer {name} " in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "argv",
    [
        ("compare", "--scenario", "edgent", "--seed", "-1"),
        ("compare", "--scenario", "edgent", "--frames", "0"),
        ("train", "--scenario", "edgent", "--seed", "-3"),
        ("traces", "generate", "--mode", "bus", "--out", "a.csv", "--seed", "-1"),
        ("compare", "--scenario", "edgent", "--sub-second", "--sub-second-seed", "-1"),
        ("compare", "--scenario", "edgent", "--no-such-option"),
        ("compare",),
        ("nothing",),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(coinfer, argv, tmp_path):
    done = coinfer(*argv, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("coinfer: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (
            ("compare", "--scenario", "mars"),
            "expected one of " + ", ".join(shipped_scenarios()),
        ),
        (
            ("compare", "--scenario", "lte-mobilenet-priced"),
            "expected 'lte-mobilenet' with prices: --device-second 0.5 --megabyte 3",
        ),
        (
            ("evaluate", "study.toml", "--out", "results", "--megabyte", "3"),
            "prices: found some beside a study",
        ),
        (("compare", "--scenario", "edgent", "--controllers", "magic"), "found 'magic'"),
        (("compare", "--scenario", "edgent", "--controllers", ","), "controllers: found ','"),
        (("compare", "--scenario", "edgent", "--traces", "nowhere.log"), "no such file"),
        (("compare", "--scenario", "edgent", "--policy", "nowhere"), "coinfer train --scenario"),
        (
            ("compare", "--scenario", "edgent", "--controllers", "device-only,fixed-hedged"),
            "has no plan that hedges",
        ),
        (
            ("compare", "--scenario", "edgent", "--controllers", "device-only,optimum"),
            "of kind 'closed-loop', expected kind 'frame-stream'",
        ),
        (
            ("train", "--scenario", "lte-mobilenet", "--most-megabyte", "99"),
            "prices, a megabyte: found at most 99",
        ),
        (
            ("adapt", "--scenario", "lte-mobilenet", "--most-device-second", "99"),
            "prices, a device second: found at most 99",
        ),
        (("plan", "--scenario", "edgent", "--bandwidth", "1", "--order", "x"), "found 'x'"),
        (
            ("plan", "--scenario", "edgent", "--bandwidth", "2Mbit"),
            "--bandwidth: found '2Mbit', expected a number of Mbit/s from 0 to 1000000",
        ),
        (
            ("plan", "--scenario", "edgent", "--bandwidth", "2000000"),
            "--bandwidth: found '2000000', expected a number of Mbit/s",
        ),
        (
            ("plan", "--scenario", "edgent", "--bandwidth", "nan"),
            "--bandwidth: found 'nan', expected a number of Mbit/s",
        ),
        (
            ("plan", "--scenario", "edgent", "--bandwidth", "1", "--age", "3s"),
            "--age: found '3s' for Algorithm 1",
        ),
        (
            ("train", "--scenario", "edgent", "--out", "/dev/null/x"),
            "expected a folder that can be written into",
        ),
        (
            ("adapt", "--scenario", "edgent", "--out", "/dev/null/x"),
            "expected a folder that can be written into",
        ),
        (("traces", "info", "nowhere.log"), "no such file"),
        (("traces", "fit-subsecond", "--from", "nowhere"), "no such file"),
        (
            ("compare", "--scenario", "edgent", "--sub-second-seed", "1"),
            "found 1, expected --sub-second with it",
        ),
        (
            ("compare", "--scenario", "edgent", "--sub-second-mean", "5.5"),
            "found 5.5, expected --sub-second with it",
        ),
        (("traces", "generate", "--mode", "x", "--out", "a.csv"), "found mode 'x'"),
        (("edge", "--host", "8.8.8.8"), "found 8.8.8.8"),
        (("edge", "--model", "vgg"), "found 'vgg'"),
        (
            ("profile", "--model", "mine", "--data", "x.npz", "--out", "o"),
            "or MODULE:FUNCTION of a model of your own",
        ),
        (("device", "--scenario", "edgent", "--edge", "here"), "expected HOST:PORT"),
        (("device", "--scenario", "edgent", "--controller", "oracle"), "simulation only"),
        (("replay", "--scenario", "edgent", "--trace", "nowhere.log"), "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(coinfer, argv, match, tmp_path):
    done = coinfer(*argv, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [x for x in done.stderr.splitlines() if x.startswith("coinfer: ")]
    assert len(lines) == 1
    assert match in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_compare_speaks_the_documented_json(coinfer, tmp_path):
    done = coinfer(
        "compare", "--scenario", "3g-alexnet", "--controllers", "learned,algorithm1",
        "--frames", "40", "--json", data=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["generated"] is True
    assert "generated stand-ins" in done.stderr
    assert set(found["controllers"]) == {"learned", "algorithm1"}
    one = found["controllers"]["learned"]
    keys = {"goodput_accuracy", "late_share", "mean_latency_s", "p95_latency_s", "bytes_per_frame",
            "share_of_bound", "interval95", "per_trace"}  # fmt: skip
    assert keys <= set(one)
    assert set(one["per_trace"]) == set(found["traces"])
    again = coinfer(
        "compare", "--scenario", "3g-alexnet", "--controllers", "learned,algorithm1",
        "--frames", "40", "--json", data=tmp_path,
    )  # fmt: skip
    assert again.stdout == done.stdout


def test_compare_lays_sub_second_variation_over_the_traces(coinfer, tmp_path):
    def compared(*more):
        done = coinfer(
            "compare", "--scenario", "3g-alexnet", "--controllers",
            "device-only,algorithm1-online", "--frames", "60", "--json", *more,
            data=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), " ".join(done.stderr.split())

    plain, _ = compared()
    one, said = compared("--sub-second", "--sub-second-seed", "5")
    two, _ = compared("--sub-second", "--sub-second-seed", "6")
    absolute, _ = compared("--sub-second", "--sub-second-seed", "5", "--sub-second-mean", "5.5")
    ending = "with sub-second variation on 20 ms steps (seed 5)"
    # the scenario's world has variation of its own, whose place this takes
    logs, own, _ = plain["source"].partition(" with sub-second")
    assert own
    assert one["source"] == f"{logs} {ending}"
    assert ending in said
    assert one["traces"] == plain["traces"]
    # the device alone sends nothing and cannot tell; whoever uploads can
    alone = [found["controllers"]["device-only"]["goodput_accuracy"] for found in (plain, one)]
    assert alone[0] == alone[1]
    uploading = [found["controllers"]["algorithm1-online"] for found in (plain, one, two, absolute)]
    assert len({c["mean_latency_s"] for c in uploading}) == 4


def test_the_sub_second_fit_is_made_from_packet_files(coinfer, tmp_path):
    rng = random.Random(3)
    for name in ("a.up", "a.down"):
        at, stamps = 0, []
        while at < 90_000:
            # faster and slower seconds, each with gaps of its own
            at += rng.choice((0, 1, 4, 8 + 30 * ((at // 1000) % 4)))
            stamps.append(at)
        (tmp_path / name).write_text("\n".join(map(str, stamps)) + "\n")
    out = tmp_path / "fit.json"
    done = coinfer("traces", "fit-subsecond", "--from", tmp_path, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    fit = json.loads(out.read_text())
    assert fit["held_out"] == rows
    assert fit["fitted_to"] == ["a.down", "a.up"]
    assert fit["made_by"] == f"coinfer traces fit-subsecond --from {tmp_path} --seed 7"
    assert all(row["within"] for row in rows if row["statistic"].startswith("std"))


def test_a_plan_is_explained(coinfer):
    done = coinfer("plan", "--scenario", "edgent", "--bandwidth", "1", "--json")
    found = json.loads(done.stdout)
    assert found["meets_deadline"] is True
    assert sum(found["parts_s"].values()) == pytest.approx(found["latency_s"])
    assert 0.8 < found["accuracy"] < 1


@pytest.mark.parametrize(
    ("option", "value"), [("--max-latency", "80ms"), ("--max-device-memory", "1MiB"),
                          ("--order", "device-first")]
)  # fmt: skip
def test_limits_of_algorithm_1_are_not_taken_for_a_policy_s(coinfer, option, value):
    done = coinfer("plan", "--scenario", "edgent", "--bandwidth", "1", "--explain", option, value)
    assert done.returncode == 2
    assert done.stderr.startswith(f"coinfer: {option}: found '{value}' with a policy")


def test_traces_convert_and_tell(coinfer, tmp_path):
    made = tmp_path / "t.csv"
    assert coinfer("traces", "generate", "--seconds", "30", "--out", made).returncode == 0
    assert coinfer("traces", "convert", made, tmp_path / "t.up").returncode == 0
    found = json.loads(coinfer("traces", "info", made, tmp_path / "t.up", "--json").stdout)
    assert [f["format"] for f in found] == ["csv", "mahimahi"]
    assert abs(found[0]["bytes"] - found[1]["bytes"]) <= 1501


def test_device_and_edge_as_processes(coinfer, tmp_path):
    port_file = tmp_path / "port"
    edge = subprocess.Popen(
        [sys.executable, "-m", "coinfer.cli.main", "edge", "--port", "0", "--port-file", port_file],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = edge.stderr.readline()
        assert "127.0.0.1:" in line, line
        port = line.split("127.0.0.1:")[1].split()[0].strip(",")
        done = coinfer(
            "device", "--scenario", "3g-alexnet", "--controller", "edge-only", "--edge",
            f"127.0.0.1:{port}", "--frames", "20", "--json", "--records", tmp_path / "r.json",
            data=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["frames"] == 20
        assert found["offloaded_share"] == 1.0
        assert "generated pictures" in found["pictures"]
        assert len(json.loads((tmp_path / "r.json").read_text())["frames"]) == 20
    finally:
        edge.terminate()
        assert edge.wait(10) == 0
        edge.stderr.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('controler = "x"', "unknown field 'controler', expected one of format_version, scenario"),
        (
            'executor = "tpu"',
            "field 'executor': found Invalid enum value 'tpu', expected 'onnx' or",
        ),
        ('[log]\nlevel = "loud"', "field 'log.level': found Invalid enum value 'loud', expected"),
        ("[limits]\nfoo = 1", "unknown field 'foo', expected one of live_frames, body_bytes"),
        (
            '[probes]\nbytes_each = "x"',
            "field 'probes.bytes_each': found text",
        ),
        ('[tracing]\nendpoint = "ftp://a/x"', "field 'tracing.endpoint': found 'ftp://a/x'"),
        ("[tracing]\nshare = 5.0", "field 'tracing.share': found 5, expected 0 to 1"),
        *(
            (f'controller = "{name}"', f"device.toml: controller: found '{name}', {DEPLOYABLE}\n")
            for name in ("nope", "oracle")
        ),
    ],
)
def test_a_mistake_in_device_toml_names_file_field_found_and_expected(
    coinfer, tmp_path, line, said
):
    path = tmp_path / "device.toml"
    path.write_text(f'format_version = 1\nscenario = "3g-alexnet"\n{line}\n')
    done = coinfer("device", "--config", path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "device.toml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
