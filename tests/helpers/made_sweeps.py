"""The smallest sweep whose cells train."""

from controller.scenarios import read_scenario
from experiments.sweeps.definition import EvaluationSection, Sweep


def made(**grid):
    sizes = {
        "frames": (64,), "planning_backlogs": (4,), "planning_sweeps": (20,), "lanes": (2,),
        "steps": (8,), "batch": (16,), "validations": (1,), "validation_frames": (100,),
        "blind_s": (0.5,),
    }  # fmt: skip
    return Sweep(
        scenarios=(read_scenario("3g-alexnet"),),
        seeds=(0,),
        algorithms=("ppo",),
        grid=sizes | grid,
        evaluation=EvaluationSection(),
    )
