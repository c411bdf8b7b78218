"""The scorer with a memory: an LSTM over contexts, trained by sb3-contrib's recurrent PPO.

For measuring whether memory pays (`experiments.analyses.algorithms`); the device's policy has none
beyond what its observation keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch import nn

from artefacts.arrays import Bools, Floats
from controller.policies.observation import CONTEXT, WIDTH
from envs.observed import HIDDEN, ObservedLanes
from envs.once import earned
from envs.records import StepResult
from experiments.learning.scorer import SHARP, Scorer, Value

C = len(CONTEXT)


class Remembering(nn.Module):
    """What was seen, and behind it what an LSTM makes of the contexts so far."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        # what sb3-contrib asks of an LSTM
        self.input_size, self.num_layers, self.hidden_size = WIDTH + HIDDEN, 1, memory
        self._lstm = nn.LSTM(C, memory)

    def forward(
        self, x: torch.Tensor, states: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """(time, lanes, WIDTH + HIDDEN) to (time, lanes, WIDTH + HIDDEN + memory)."""
        remembered, states = self._lstm(x[..., :C], states)
        return torch.cat([x, remembered], dim=-1), states


class RecurrentScorer(Scorer):
    """A scorer whose context has the memory behind it; begins as planning, as the plain one."""

    def __init__(self, hidden: int, memory: int) -> None:
        super().__init__(hidden, SHARP)
        self.context = nn.Linear(C + memory, hidden)
        self._memory = memory

    def about(self, x: torch.Tensor) -> torch.Tensor:
        """The hidden layer's part from the context and the memory."""
        both = torch.cat([x[:, :C], x[:, -self._memory :]], dim=1)
        found: torch.Tensor = self.context(both)
        return found


class RecurrentScorerPolicy(RecurrentActorCriticPolicy):
    """Recurrent PPO's policy: as `ScorerPolicy`, with a memory before the scorer."""

    def __init__(self, *args: Any, hidden: int, memory: int, **kwargs: Any) -> None:
        asked = {"lstm_hidden_size": memory, "enable_critic_lstm": False}
        super().__init__(*args, **(kwargs | asked))
        self.lstm_actor = Remembering(memory)  # type: ignore[assignment]
        self.critic = nn.Identity()  # type: ignore[assignment]
        self.action_net = RecurrentScorer(hidden, memory)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=self.optimizer.param_groups[0]["lr"],  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Value(self.features_dim)  # type: ignore[assignment]


def recurrent_reward(lanes: ObservedLanes, policy: RecurrentScorerPolicy, frames: int) -> Floats:
    """Mean reward per frame of every trace (L,), as `envs.observed.mean_reward` of a plain
    policy.
    """
    everyone = np.ones(lanes.lanes, dtype=np.bool_)
    lanes.forget(everyone)
    shape = (policy.lstm_hidden_state_shape[0], lanes.lanes, policy.lstm_hidden_state_shape[2])
    zeros = (torch.zeros(shape), torch.zeros(shape))
    states, starts = RNNStates(zeros, zeros), torch.ones(lanes.lanes)

    def step(alive: Bools) -> StepResult:
        nonlocal states, starts
        observation = lanes.observe()
        seen = torch.from_numpy(np.concatenate([observation.flat, lanes.hidden()], axis=1))
        with torch.no_grad():
            chosen, _, _, states = policy.forward(seen, states, starts, deterministic=True)
        starts = torch.zeros(lanes.lanes)
        return lanes.step(observation, chosen.numpy().ravel())

    return earned(lanes.simulator, step, frames)
