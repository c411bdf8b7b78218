"""`coinfer profile --model MODULE:FACTORY`: a folder that plan, train and compare go on with."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from coinfer.cli.console import console, print_table, progress_bar, say_interrupted

SCENARIO = """format_version = 1
name = {name}
kind = "frame-stream"
description = {description}
network = "."
device_profile = "device"
edge_profile = "edge"

[traces]
family = "belgium"
scale = 0.1

[frames]
# as fast as the device can run the whole model (30 at most), and a deadline of {factor:g} times its
# latency, or what a small picture needs over the link if that is longer
rate_fps = {rate}
deadline_s = {deadline:.4g}

[link]
rtt_s = 0.030
message_bytes = 256.0
packet_bytes = 66.0

[plans]
codecs = [{codecs}]
edge_first = false
no_rescue = true
# how sure an exit must be to answer by itself ("exit i unless confident before")
confidence = [0.5, 0.7, 0.9]
"""
DEADLINE_FACTOR = 1.25
LEAST_DEADLINE_S = 0.08
MOST_FPS = 30.0


def bring(
    named: str,
    out: Path,
    data: Path | None,
    side: str,
    exits: int,
    placement: str,
    heads: str,
    epochs: int,
    joint_epochs: int,
    mean: str,
    std: str,
    seed: int,
    *,
    threads: int,
    repeats: int,
    slowdown: float,
    codec_slowdown: float | None,
    codecs: tuple[str, ...],
) -> dict[str, Any]:
    """Capture, give exits, judge, profile as device and as edge, and write a scenario."""
    import torch

    from artefacts import UsageError, atomic_write, ready_folder
    from models.facts.cards import load_model
    from models.facts.profiles import write_profile
    from models.networks.factories import load_factory, load_head, read_pictures
    from models.networks.profile_module import (
        CHOSEN,
        CODECS,
        Listener,
        ProfileArgs,
        adopt,
    )
    from models.networks.profiling import profile_model
    from models.networks.timing import ProfilingArgs
    from models.networks.training import EpochReport

    if out.suffix == ".json" or out.is_file():
        raise UsageError(f"--out: found '{out}', expected a folder (for a model that is brought)")
    args = ProfileArgs(
        exits, placement, epochs, joint_epochs, _three("mean", mean), _three("std", std), seed
    )
    head = load_head(heads) if heads else None
    codecs = codecs or CODECS
    timing = ProfilingArgs("onnxruntime", threads, repeats, grid=0, codecs=codecs)
    slow = replace(timing, slowdown=slowdown, codec_slowdown=codec_slowdown)
    pictures = None if data is None else read_pictures(data)
    size = _side(side) if pictures is None else (pictures.x.shape[1], pictures.x.shape[2])
    module, name = load_factory(named), out.name or "model"
    torch.set_num_threads(threads)
    ready_folder(out, make=False)
    with progress_bar() as bar:
        task = bar.add_task("capture", total=None, note="")

        def epoch(now: EpochReport) -> None:
            shares = " ".join(f"{100 * a:.1f}" for a in now.accuracies)
            console.print(f"epoch {now.epoch}/{now.epochs}: held-back accuracy by exit {shares} %")

        listener = Listener(
            lambda stage: bar.update(task, description=stage, total=None, completed=0),
            lambda done, total: bar.update(task, completed=done, total=total),
            epoch,
        )
        try:
            outcomes = adopt(out, module, name, pictures, size, args, listener, head, codecs)
            model = load_model(out)
            bar.update(task, description="profile", total=None)
            edge = profile_model(model, "edge", timing)
            device = profile_model(model, "device", slow)
        except KeyboardInterrupt:
            left = [p for p in (out / "checkpoint.pt", out / CHOSEN) if p.exists()]
            say_interrupted(left[0] if left else out / "checkpoint.pt")
            raise SystemExit(130) from None
    write_profile(out / "profiles" / "edge.json", edge)
    write_profile(out / "profiles" / "device.json", device)
    whole_s = device.interval_s(-1, 0, len(model.spec.trunk))
    scenario = out / "scenario.toml"
    if scenario.exists():
        console.print(
            f"{scenario} is kept as it is; remove it and run again for one that fits this profile"
        )
    else:
        with atomic_write(scenario) as stream:
            stream.write(
                SCENARIO.format(
                    # a JSON string is a TOML string too, whatever is in it
                    name=json.dumps(name),
                    description=json.dumps(
                        f"{name}, a model that was brought: device and edge are this machine "
                        f"({device.emulation or 'as it is'})"
                    ),
                    # rounded down: at a rate rounded up the device would fall behind
                    rate=min(math.floor(100.0 / whole_s) / 100.0, MOST_FPS),
                    deadline=max(DEADLINE_FACTOR * whole_s, LEAST_DEADLINE_S),
                    factor=DEADLINE_FACTOR,
                    codecs=", ".join(f'"{c}"' for c in codecs),
                )
            )
    spec = model.spec
    if len(spec.exits) <= exits:
        console.print(
            f"{len(spec.exits) - 1} of {exits} exits were put in: the front of placement "
            f"'{placement}' has no more"
        )
    print_table(
        f"{name}: {len(spec.trunk)} stretches, {len(spec.exits)} exits; accuracy on "
        f"{outcomes.dataset}",
        ["exit", "after", "accuracy", "device ms", "edge ms", "device MiB"],
        [
            (
                i + 1,
                spec.crossing(i, e.after) if e.head else "the end",
                f"{100 * outcomes.accuracy(i):.2f} %",
                f"{1e3 * device.interval_s(i, 0, len(spec.branches[i])):.2f}",
                f"{1e3 * edge.interval_s(i, 0, len(spec.branches[i])):.2f}",
                f"{device.device_bytes((i, 0, len(spec.branches[i]))) / 2**20:.1f}",
            )
            for i, e in enumerate(spec.exits)
        ],
    )
    console.print(f"go on with: coinfer plan --scenario {scenario} --bandwidth 2")
    return {
        "folder": str(out),
        "scenario": str(scenario),
        "accuracies": [outcomes.accuracy(i) for i in range(outcomes.exits)],
        "judged_on": outcomes.dataset,
        "device_s": [device.interval_s(i, 0, len(b)) for i, b in enumerate(spec.branches)],
    }


def _three(name: str, text: str) -> tuple[float, float, float]:
    from artefacts import UsageError

    try:
        r, g, b = (float(part) for part in text.split(","))
    except ValueError:
        r = g = b = math.nan
    if not all(map(math.isfinite, (r, g, b))):
        raise UsageError(f"--{name}: found '{text}', expected three numbers R,G,B")
    return r, g, b


def _side(text: str) -> tuple[int, int]:
    from artefacts import UsageError

    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(8 <= int(n) <= 4096 for n in match.groups()):
        raise UsageError(
            f"--input: found '{text}', expected HEIGHTxWIDTH (8 to 4096), or --data with pictures"
        )
    return int(match[1]), int(match[2])
