"""Heads trained together with their gates: resumable, the trunk and the last exit untouched."""

import numpy as np
import pytest
import torch

from artefacts import ArtefactError
from experiments.analyses.confidence.curves import exit_costs
from experiments.analyses.confidence.gates import PRICES
from experiments.analyses.confidence.joint import JointArgs, report_half, train_jointly
from experiments.analyses.confidence.records import read_record, write_record
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, expected_shapes, load_model, model_digest, save_model
from models.facts.layers import LayerSpec
from models.facts.preprocessing import PictureInput

SPEC = BranchySpec(
    "tiny", (3, 8, 8), 3,
    (LayerSpec("conv1", "conv", channels=6, kernel=3, padding=1), LayerSpec("relu1", "relu"),
     LayerSpec("conv2", "conv", channels=8, kernel=3, padding=1),
     LayerSpec("fc", "fc", channels=3)),
    (ExitSpec(2, (LayerSpec("exit1.fc", "fc", channels=3),)), ExitSpec(4)),
)  # fmt: skip
ARGS = JointArgs(prices=(0.01, 1.0), epochs=2, learning_rate=0.05)


class Batches:
    """Two batches an epoch of pictures whose colour is their class."""

    steps = 2

    def _batch(self, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 3, 48)
        x = rng.normal(0.0, 0.7, (48, 3, 8, 8)) + 1.5 * np.eye(3)[y][:, :, None, None]
        return torch.from_numpy(x).float(), torch.from_numpy(y)

    def epoch(self, epoch):
        yield self._batch(2 * epoch)
        yield self._batch(2 * epoch + 1)

    def held_back(self):
        yield self._batch(1000)


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(5)
    state = {
        name: rng.normal(0.0, 0.3, shape).astype(np.float32)
        for name, shape in expected_shapes(SPEC).items()
    }
    card = Card(
        2, "tiny", SPEC, model_digest(SPEC, state), ("a", "b", "c"), "made up",
        PictureInput((0.5,) * 3, (0.2,) * 3), {}, (), (),
    )  # fmt: skip
    save_model(tmp_path / "tiny", state, card)
    return load_model(tmp_path / "tiny")


def trained(model, path, args=ARGS, batches=None):
    reported = []
    record = train_jointly(
        model, batches or Batches(), lambda: iter([Batches()._batch(2000)]), "made up",
        exit_costs(model.spec), args, path, lambda epoch, points: reported.append((epoch, points)),
    )  # fmt: skip
    return record, reported


def test_heads_learn_and_the_last_exit_stays(model, tmp_path):
    args = JointArgs(prices=(0.01, 1.0), epochs=25, learning_rate=0.05)
    record, reported = trained(model, tmp_path / "a.pt", args)
    assert [epoch for epoch, _ in reported] == list(range(1, 26))
    assert len(record.points) == 2 * len(PRICES)
    last = {p.exit_accuracies[1] for p in record.points}
    assert len(last) == 1  # of the frozen network, whatever the price
    dear = [p for p in record.points if p.price == 1.0]
    # a dear network is stopped early, by a head that has learned what the random one did not know
    assert dear[-1].compute < 0.95
    assert dear[-1].exit_accuracies[0] > 0.6
    write_record(tmp_path / "tiny.json", record)


def test_an_interrupted_run_ends_as_a_whole_one(model, tmp_path):
    whole, _ = trained(model, tmp_path / "whole.pt")

    class Interrupted(Batches):
        def epoch(self, epoch):
            if epoch == 1:
                raise KeyboardInterrupt
            yield from super().epoch(epoch)

    with pytest.raises(KeyboardInterrupt):
        trained(model, tmp_path / "cut.pt", batches=Interrupted())
    resumed, reported = trained(model, tmp_path / "cut.pt")
    assert [epoch for epoch, _ in reported] == [2]
    assert resumed == whole
    with pytest.raises(ArtefactError, match="field 'identity'"):
        trained(model, tmp_path / "cut.pt", JointArgs(prices=(0.5,), epochs=2))


def test_the_report_half_is_picked_from_batches_in_order():
    batches = [(torch.arange(4.0), torch.arange(4)), (torch.arange(4.0, 7.0), torch.arange(4, 7))]
    picked = list(report_half(iter(batches), np.array([1, 3, 4])))
    assert [y.tolist() for _, y in picked] == [[1, 3], [4]]
    assert [y.tolist() for _, y in report_half(iter(batches), np.array([5]))] == [[5]]


@pytest.mark.parametrize("name", ["alexnet", "mobilenetv2"])
def test_the_shipped_records_are_of_the_shipped_models(name):
    record = read_record(load_model(name))
    assert record is not None
    assert len(record.points) == len(record.training["prices"]) * len(PRICES)
