"""The frames: each asked once over HTTP, and held against what its very picture's answer is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controller.daemon.client import AsyncClient, DeviceError
from controller.scenarios import load_setting, read_scenario
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

RATE_FPS = 10.0
PICTURES = 200


class Truth:
    """What every picture's answer is at every exit, and what became of every frame."""

    def __init__(self, scenario: Path) -> None:
        setting = load_setting(read_scenario(str(scenario)))
        self.pictures = generated_pictures(PICTURES, np.random.default_rng(0))
        executor, x = OnnxExecutor(setting.model), setting.model.normalise(self.pictures)
        self._labels: list[npt.NDArray[np.int64]] = []
        self._sure: list[npt.NDArray[np.float64]] = []
        for exit_, layers in enumerate(setting.spec.branches):
            logits = executor.run(exit_, 0, len(layers), x).astype(np.float64)
            scaled = np.exp(
                (logits - logits.max(axis=1, keepdims=True)) / setting.model.temperatures[exit_]
            )
            self._labels.append(scaled.argmax(axis=1))
            self._sure.append(scaled.max(axis=1) / scaled.sum(axis=1))

    def fits(self, picture: int, exit_: int, label: int, confidence: float) -> bool:
        """Whether an answer is this picture's: its class, and its confidence to three digits.

        `picture` is its number; the answer is class `label` of exit `exit_`, from 0, at a
        `confidence` of 0 to 1.
        """
        known = self._labels[exit_ - 1][picture] == label
        return bool(known and abs(self._sure[exit_ - 1][picture] - confidence) < 1e-3)


async def _ask(
    client: AsyncClient,
    truth: Truth,
    picture: int,
    seen: Counter[str],
    why: Counter[str],
    edge_too: bool,
) -> None:
    """One frame: counted once, whatever comes of it."""
    who = "" if edge_too else "control "
    seen[who + "asked"] += 1
    try:
        found = await client.infer(truth.pictures[picture])
    except DeviceError as error:
        what = {504: "late", 503: "refused"}.get(error.status, "lost")
        seen[who + what] += 1
        why[f"{who}{what}: {error}"] += 1
        return
    except Exception as error:  # whatever happens to a request, its frame must be accounted for
        seen[who + "lost"] += 1
        print(f"lost: {type(error).__name__}: {error}", file=sys.stderr)
        return
    seen[who + "answered"] += 1
    seen[who + found.where] += 1
    label = -1 if found.label is None else found.label  # no class at all is a wrong one
    if not truth.fits(picture, found.exit, label, found.confidence):
        seen[who + "wrong"] += 1
        print(f"wrong: picture {picture}: {found}", file=sys.stderr)


async def stream(
    address: str,
    truth: Truth,
    first: int,
    frames: int,
    seen: Counter[str],
    why: Counter[str],
    stop: asyncio.Event,
    edge_too: bool,
) -> None:
    """Frames at `RATE_FPS`, whether or not those before are answered, until `stop`."""
    async with AsyncClient(address) as client, asyncio.TaskGroup() as group:
        begun = time.monotonic()
        for frame in range(frames):
            if stop.is_set():
                break
            await asyncio.sleep(max(begun + frame / RATE_FPS - time.monotonic(), 0.0))
            picture = (first + frame) % PICTURES
            group.create_task(_ask(client, truth, picture, seen, why, edge_too))


async def unaccounted(addresses: list[str]) -> int:
    """Frames that the daemons took and did not end exactly once."""
    found = 0
    for address in addresses:
        async with AsyncClient(address) as client:
            state = await client.state()
        found += abs(state["answered"] + state["late"] - state["frames"])
    return found
