"""What is swept: every combination once, an id for each, and mistakes in one line."""

import math
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sweeps import made
from sweep_processes import ROOT

from artefacts import ArtefactError
from controller.scenarios import load_setting, read_scenario
from experiments.learning.training_args import TrainArgs
from experiments.sweeps.definition import EvaluationSection, argument_types, read_sweep
from experiments.sweeps.grid import at_prices, basis, cell_id, combinations, expand, make_cell

names = st.sampled_from(["learning_rate", "gamma", "entropy", "critic_share"])
values = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3, unique=True)
grids = st.dictionaries(names, values.map(tuple), max_size=3)
seeds = st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True).map(tuple)
algorithms = st.sampled_from([("ppo",), ("dqn",), ("ppo", "dqn")])


def ids(sweep):
    return [
        make_cell(scenario, args, sweep.evaluation, {}).id for scenario, args in combinations(sweep)
    ]


def test_prices_are_of_all_cells(tmp_path):
    text = 'format_version = 1\nscenarios = ["lte-mobilenet"]\nseeds = [0]\nframes = 0\n'
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    (plain,) = expand(read_sweep(path))
    path.write_text(text + "prices = [1.0, 2.0]\n")
    (priced,) = expand(read_sweep(path))
    assert priced.id != plain.id
    setting = at_prices(priced.scenario, priced.prices)
    assert setting.scenario.name == "lte-mobilenet-priced"
    assert (setting.prices.device_second, setting.prices.megabyte) == (1.0, 2.0)
    path.write_text(text + "prices = [1.0, -2.0]\n")
    with pytest.raises(ArtefactError, match=r"'prices\[1\]': found -2, expected a number of 0"):
        read_sweep(path)


@given(grids, seeds, algorithms, st.randoms(use_true_random=False))
def test_a_grid_is_every_combination_once_in_any_order(grid, seeds, algorithms, random):
    one = msgspec.structs.replace(made(), grid=grid, seeds=seeds, algorithms=algorithms)
    found = [args for _, args in combinations(one)]
    assert len(found) == len(seeds) * len(algorithms) * math.prod(map(len, grid.values()))
    assert [args.seed for args in found] == sorted((a.seed for a in found), key=seeds.index)
    for args in found:
        assert args.algorithm in algorithms
        for name in argument_types(TrainArgs):
            if name in grid:
                assert getattr(args, name) in grid[name]
            elif name not in ("seed", "algorithm"):
                assert getattr(args, name) == getattr(TrainArgs(), name)
    assert len(set(ids(one))) == len(found)
    shuffled = list(grid.items())
    random.shuffle(shuffled)
    other = msgspec.structs.replace(
        one,
        grid={name: tuple(random.sample(v, len(v))) for name, v in shuffled},
        seeds=tuple(random.sample(seeds, len(seeds))),
        algorithms=tuple(random.sample(algorithms, len(algorithms))),
    )
    assert set(ids(other)) == set(ids(one))


def test_an_id_holds_everything_that_decides(here):
    scenario = read_scenario("3g-alexnet")
    setting = load_setting(scenario)
    known = basis(setting, EvaluationSection())
    args = TrainArgs(frames=64)
    plain = make_cell(scenario, args, EvaluationSection(), known)
    others = [
        make_cell(scenario, TrainArgs(frames=64, algorithm="dqn"), EvaluationSection(), known),
        make_cell(scenario, TrainArgs(frames=65), EvaluationSection(), known),
        make_cell(scenario, args, EvaluationSection(max_frames=5), known),
        make_cell(scenario, args, EvaluationSection(seed=5), known),
        make_cell(scenario, args, EvaluationSection(("validation", "test")), known),
        *(make_cell(scenario, args, EvaluationSection(), known | {k: "x"}) for k in known),
    ]
    assert len({c.id for c in (plain, *others)}) == 1 + len(others)
    assert make_cell(scenario, args, EvaluationSection(), known) == plain
    # and where files lie, or that it crossed a border as JSON, decides nothing
    crossed = msgspec.json.decode(msgspec.json.encode(plain), type=type(plain))
    assert crossed == plain
    assert cell_id(crossed, basis(load_setting(crossed.scenario), plain.evaluation)) == plain.id


HEAD = 'format_version = 1\nscenarios = ["edgent"]\nseeds = [0]\n'
KNOWN = ", ".join(n for n in argument_types(TrainArgs) if n not in ("seed", "algorithm"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "[grid]\nlanez = [1]\n",
         f"field 'grid.lanez': found no hyper-parameter 'lanez', expected one of {KNOWN}"),
        (HEAD + "[grid]\nlanes = [1, 2.5]\n",
         "field 'grid.lanes[1]': found 2.5, expected a whole number"),
        (HEAD + "[grid]\nhidden = [[64]]\n",
         "field 'grid.hidden[0]': found [64], expected a whole number"),
        (HEAD + '[grid]\nblind_s = ["never"]\n',
         "field 'grid.blind_s[0]': found 'never', expected a number"),
        (HEAD + 'algorithms = ["ppo", "a2c"]\n',
         "field 'algorithms[1]': found 'a2c', expected 'ppo' or 'dqn'"),
        (HEAD + 'algorithms = ["dqn", "dqn"]\n',
         "field 'algorithms[1]': found 'dqn' again, expected each value once"),
        (HEAD + '[grid]\nalgorithm = ["dqn"]\n',
         "field 'grid.algorithm': found 'algorithm' in the grid, expected 'algorithms' at the top"),
        (HEAD + "[grid]\ngamma = [nan]\n",
         "field 'grid.gamma[0]': found nan, expected a finite number"),
        (HEAD + "[grid]\nlanes = 5\n", "field 'grid.lanes': found 5, expected a list of values"),
        (HEAD + "[grid]\nlanes = []\n",
         "field 'grid.lanes': found an empty list, expected one value or more"),
        (HEAD + "[grid]\ngamma = [1, 1.0]\n",
         "field 'grid.gamma[1]': found 1.0 again, expected each value once"),
        (HEAD + "[grid]\nseed = [1]\n",
         "field 'grid.seed': found 'seed' in the grid, expected 'seeds' at the top"),
        (HEAD + "frames = 5\n[grid]\nframes = [1]\n",
         "field 'grid.frames': found 'frames' at the top too, expected it in one place"),
        (HEAD + "frames = -1\n", "field 'frames': found -1, expected 0 or more"),
        (HEAD + "[grid]\nframes = [0, -1]\n",
         "field 'grid.frames[1]': found -1, expected 0 or more"),
        (HEAD + "[grid]\nlearning_rate = [-1.0]\n",
         "field 'grid.learning_rate[0]': found -1.0, expected more than 0"),
        (HEAD + "[grid]\ngamma = [1.5]\n",
         "field 'grid.gamma[0]': found 1.5, expected 0 to 1"),
        (HEAD + '[evaluation]\nparts = ["train"]\n',
         "field 'evaluation.parts[0]': found 'train', expected validation or test"),
        (HEAD + "[evaluation]\nmax_frames = 0\n",
         "field 'evaluation.max_frames': found 0, expected 1 or more"),
        (HEAD.replace("[0]", "[0, -1]"), "field 'seeds[1]': found -1, expected 0 or more"),
        (HEAD.replace("[0]", "[]"),
         "field 'seeds': found an empty list, expected one value or more"),
        (HEAD + "lanes = 5\n",
         "found an unknown field 'lanes', expected one of format_version, scenarios, "
         "seeds, algorithms, frames, grid, evaluation, prices"),
        (HEAD.replace("= 1", "= 2"), "field 'format_version': found 2, expected 1"),
    ],
)  # fmt: skip
def test_a_definition_that_does_not_fit_is_refused(text, said, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(ArtefactError) as refused:
        read_sweep(path)
    assert str(refused.value).removeprefix(f"{path}").lstrip(",: ") == said


def test_fields_that_training_may_get_are_taken_by_their_type(tmp_path):
    @dataclass(frozen=True)
    class Other:
        algorithm: Literal["ppo", "a2c"] = "ppo"
        seed: int = 0
        epsilon: float = 0.1
        units: tuple[int, ...] = (64,)
        masked: bool = True

    path = tmp_path / "sweep.toml"
    head = HEAD + 'algorithms = ["a2c", "ppo"]\n[grid]\n'
    path.write_text(head + "epsilon = [1]\nunits = [[8, 8], []]\nmasked = [false]\n")
    assert [args for _, args in combinations(read_sweep(path, Other), Other)] == [
        Other("a2c", 0, 1.0, (8, 8), False), Other("a2c", 0, 1.0, (), False),
        Other("ppo", 0, 1.0, (8, 8), False), Other("ppo", 0, 1.0, (), False),
    ]  # fmt: skip
    for line, said in (
        ("masked = [1]", "'grid.masked[0]': found 1, expected true or false"),
        ("units = [64]", "'grid.units[0]': found 64, expected a list, each a whole number"),
    ):
        path.write_text(head + line)
        with pytest.raises(ArtefactError, match=re.escape(said)):
            read_sweep(path, Other)
    path.write_text(HEAD + 'algorithms = ["dqn"]\n')
    with pytest.raises(ArtefactError, match=r"'algorithms\[0\]': found 'dqn', expected 'ppo' or"):
        read_sweep(path, Other)


def test_who_only_hands_cells_out_needs_no_torch():
    """Its import takes longer than all else that a driver does before its first cell."""
    code = (
        "import sys; from experiments.sweeps import definition, driver, local, on_ray;"
        "print(*{'torch', 'stable_baselines3', 'gymnasium'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("\n", "")


def test_the_shipped_sweeps_are_sweeps():
    shipped = sorted((ROOT / "experiments" / "studies" / "sweeps").glob("*.toml"))
    assert shipped
    for path in shipped:
        assert expand(read_sweep(path))
