"""A warm start: the network first learns to decide as a given controller does (DAgger, two rounds).

(Ross et al., AISTATS 2011.) PPO then improves on it by reward. Without it PPO settled, on streams
that overload the device, in "always local", from which no single frame's reward leads out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from controller.interface import Controller
from controller.policies.observation import Observer, Scales
from controller.scenario import Setting
from envs.simulator import Simulator
from experiments.evaluation import decide, tell

LANES, FRAMES, ROUNDS = 96, 300, 2
EPOCHS, BATCH = 25, 1024

Student = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


def demonstrations(
    setting: Setting,
    simulator: Simulator,
    teacher: Callable[[], Controller],
    student: Student | None,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What the teacher would do on the way: observations (N, FEATURES) and its plans (N,).

    With a `student`, it decides and the teacher only labels, so that the data hold the situations
    a student's own mistakes lead to.
    """
    lanes = simulator.lanes
    everyone = np.ones(lanes, dtype=np.bool_)
    simulator.place_randomly(everyone, FRAMES)
    observer = Observer(lanes, Scales(setting.scenario.frames.deadline_s))
    teachers = [teacher() for _ in range(lanes)]
    for one in teachers:
        one.reset()
    seen, labels = [], []
    for frame in range(FRAMES):
        progress(frame / FRAMES)
        backlogs = tell(simulator, teachers, everyone, observer)
        observation = observer.observe(simulator.now_s, *backlogs)
        plan = decide(simulator, teachers, everyone, *backlogs)
        seen.append(observation)
        labels.append(plan)
        result = simulator.step(plan if student is None else student(observation))
        if result.ended.any():
            simulator.place_randomly(result.ended, FRAMES)
            observer.reset(result.ended)
            for k in np.flatnonzero(result.ended).tolist():
                teachers[k].reset()
    return np.concatenate(seen), np.concatenate(labels)


def imitate(
    actor: nn.Module,
    setting: Setting,
    simulator: Simulator,
    teacher: Callable[[], Controller],
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> float:
    """Train `actor` (observations -> scores) to choose as the teacher; its final agreement.

    The first round follows the teacher's own streams, the second the student's.
    """
    generator = torch.Generator().manual_seed(seed)

    def student(observation: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        with torch.no_grad():
            return np.asarray(actor(torch.from_numpy(observation)).argmax(1).numpy())

    observations = np.zeros((0, 0), dtype=np.float32)
    labels = np.zeros(0, dtype=np.int64)
    agreement = 0.0
    for number in range(ROUNDS):

        def told(share: float, number: int = number) -> None:
            progress((number + 0.9 * share) / ROUNDS)

        x, y = demonstrations(setting, simulator, teacher, None if number == 0 else student, told)
        observations = x if number == 0 else np.concatenate([observations, x])
        labels = np.concatenate([labels, y])
        agreement = _fit(actor, observations, labels, generator)
        progress((number + 1) / ROUNDS)
    return agreement


def _fit(
    actor: nn.Module,
    observations: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    generator: torch.Generator,
) -> float:
    optimiser = torch.optim.Adam(actor.parameters(), lr=2e-3)
    x, y = torch.from_numpy(observations), torch.from_numpy(labels)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for at in range(0, len(order), BATCH):
            index = order[at : at + BATCH]
            loss = nn.functional.cross_entropy(actor(x[index]), y[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
    with torch.no_grad():
        return float((actor(x).argmax(1) == y).float().mean())
