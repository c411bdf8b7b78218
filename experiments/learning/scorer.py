"""The policy's network in torch, inside stable-baselines3's policies for PPO and DQN.

It begins as planning alone (the last layer is 0) and learns what to add to it (residual policy
learning: Silver et al., 2018), so that training starts where the planner ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from artefacts import UsageError
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED
from controller.policies.weights import ABSENT, ScorerWeights
from envs.observed import HIDDEN

C, K, F = len(CONTEXT), CANDIDATES, len(DESCRIBED)
SHARP = 15.0
"""Weight of the 20-fold advantages at the start: a hundredth of an answer is 3 nats, so that what
is sampled differs from the best only among plans that are nearly as good."""


class Scorer(nn.Module):
    """Rows of observations and what is hidden, (N, WIDTH + HIDDEN), to scores (N, K).

    See `ScorerWeights`.

    `sharpness` multiplies the advantage; it is learnt where `sharpens`. Inputs named in `without`
    are not shown to what learns (planning's own word stays).
    """

    _shows_context: torch.Tensor
    _shows_described: torch.Tensor

    def __init__(
        self,
        hidden: int,
        sharpness: float,
        *,
        sharpens: bool = True,
        without: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        for name in without:
            if name not in (*CONTEXT, *DESCRIBED):
                raise UsageError(
                    f"training, without: found '{name}', expected one of "
                    f"{', '.join((*CONTEXT, *DESCRIBED))}"
                )
        shown = [[float(n not in without) for n in names] for names in (CONTEXT, DESCRIBED)]
        self.register_buffer("_shows_context", torch.tensor(shown[0]))
        self.register_buffer("_shows_described", torch.tensor(shown[1]))
        self.context = nn.Linear(C, hidden)
        self.described = nn.Linear(F, hidden, bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.out.weight)
        start = torch.tensor(math.log(sharpness))
        self.log_sharpness = nn.Parameter(start, requires_grad=sharpens)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the candidates."""
        described = x[:, C : C + K * F].reshape(-1, K, F)
        present = x[:, C + K * F : C + K * F + K]
        about = self.about(x)[:, None, :]
        hidden = torch.relu(about + self.described(described * self._shows_described))
        hidden = torch.relu(self.middle(hidden))
        scores = self.out(hidden)[..., 0] + self.log_sharpness.exp() * described[..., 0]
        masked: torch.Tensor = scores - float(ABSENT) * (1.0 - present)
        return masked

    def about(self, x: torch.Tensor) -> torch.Tensor:
        """The hidden layer's part from the context, the same for every candidate."""
        found: torch.Tensor = self.context(x[:, :C] * self._shows_context)
        return found

    def take(self, weights: ScorerWeights) -> None:
        """Go on from weights of as many hidden units."""
        if weights.middle.shape != tuple(self.middle.weight.shape):
            raise UsageError(
                f"training: found weights of {len(weights.out)} hidden units to go on from, "
                f"expected {len(self.middle.bias)}"
            )
        pairs = (
            (self.context.weight, weights.context.T), (self.context.bias, weights.context_bias),
            (self.described.weight, weights.described.T), (self.middle.weight, weights.middle.T),
            (self.middle.bias, weights.middle_bias), (self.out.weight, weights.out[None]),
            (self.log_sharpness, np.log(weights.sharpness[0])),
        )  # fmt: skip
        with torch.no_grad():
            for parameter, array in pairs:
                parameter.copy_(torch.tensor(np.asarray(array)))

    def exported(self) -> ScorerWeights:
        """The same as numpy arrays."""

        def of(tensor: torch.Tensor) -> Any:
            # a copy in any case: training goes on and moves the tensors in place
            return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C", copy=True)

        return ScorerWeights(
            of((self.context.weight * self._shows_context).T), of(self.context.bias),
            of((self.described.weight * self._shows_described).T),
            of(self.middle.weight.T), of(self.middle.bias), of(self.out.weight[0]),
            of(self.log_sharpness.exp().reshape(1)),
        )  # fmt: skip


class Value(nn.Module):
    """The value estimate sees the context, the best candidate and what is hidden from the policy.

    stable-baselines3 asks it for latents and puts a linear layer behind.
    """

    latent_dim_vf = 64

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_dim_pi = width
        size = self.latent_dim_vf
        self._layers = nn.Sequential(
            nn.Linear(C + F + HIDDEN, size), nn.Tanh(), nn.Linear(size, size), nn.Tanh()
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of the policy and of the value."""
        return self.forward_actor(x), self.forward_critic(x)

    def forward_actor(self, x: torch.Tensor) -> torch.Tensor:
        """The scorer takes rows as they are."""
        return x

    def forward_critic(self, x: torch.Tensor) -> torch.Tensor:
        """What the value is a linear layer of."""
        seen = torch.cat([x[:, : C + F], x[:, -HIDDEN:]], dim=1)
        latents: torch.Tensor = self._layers(seen)
        return latents


class ScorerPolicy(ActorCriticPolicy):
    """PPO's policy: the scorer as its last layer, a value estimate that is given more."""

    def __init__(
        self, *args: Any, hidden: int, without: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        self._hidden, self._without = hidden, without
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Value(self.features_dim)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = Scorer(self._hidden, SHARP, without=self._without)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),
            **self.optimizer_kwargs,  # type: ignore[call-arg]
        )


class ScorerQPolicy(DQNPolicy):
    """DQN's: the scorer gives action values; an advantage counts what it is."""

    def __init__(
        self, *args: Any, hidden: int, without: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        self._hidden, self._without = hidden, without
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """A Q-network whose layers are the scorer."""
        net = super().make_q_net()
        # the description has 20-fold advantages; action values have them as they are
        net.q_net = Scorer(  # type: ignore[assignment]
            self._hidden, 0.05, sharpens=False, without=self._without
        )
        return net
