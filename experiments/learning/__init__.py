"""How a policy is made: planning, PPO or DQN, distillation to a map, explanation."""
