"""The Gymnasium environments: trace + profile + outcomes -> reward.

`gymnasium.make("coinfer.gym:coinfer/FrameStream-v0")` finds them without another import.
"""

from artefacts.namesakes import refuse_namesakes

refuse_namesakes(__name__)
