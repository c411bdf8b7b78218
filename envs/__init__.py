"""The Gymnasium environments: trace + profile + outcomes -> reward.

`gymnasium.make("envs.registration:coinfer/FrameStream-v0")` finds them without another import.
"""
