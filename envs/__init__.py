"""The Gymnasium environments: trace + profile + outcomes -> reward.

`gymnasium.make("coinfer/FrameStream-v0")` finds them without importing this package.
"""
