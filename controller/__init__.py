"""What is decided, and done: plans, physics, planners, sensing, policies, wire and runtime.

Its device side runs on a Pi: nothing here imports torch at import time, and nothing here ever
imports `envs` or `experiments`, gymnasium, stable-baselines3, pandas or matplotlib.
"""

from artefacts.namesakes import refuse_namesakes

refuse_namesakes(__name__)
