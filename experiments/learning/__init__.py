"""How a policy is made: imitation, PPO, distillation to a map, explanation."""
