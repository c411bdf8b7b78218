"""The Gymnasium environments: trace + profile + outcomes -> reward.

`gymnasium.make("coinfer.gym:coinfer/FrameStream-v0")` finds them without another import.
"""
