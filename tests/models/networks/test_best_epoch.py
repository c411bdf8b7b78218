"""The best epoch of a run stays, of every exit by itself where exits are trained apart."""

import torch
from torch import nn

from models.networks.best_epoch import BestEpoch


class Apart(nn.Module):
    def __init__(self):
        super().__init__()
        self.apart = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    def set(self, first, second):
        with torch.no_grad():
            for part, value in zip(self.apart, (first, second), strict=True):
                part.weight.fill_(value)

    @property
    def values(self):
        return [part.weight.item() for part in self.apart]


def test_every_exit_keeps_its_own_best_epoch():
    network, best = Apart(), BestEpoch((1.0, 1.0, 1.0))
    for epoch, accuracies in enumerate([(0.5, 0.2, 0.9), (0.4, 0.6, 0.9), (0.5, 0.5, 0.9)], 1):
        network.set(epoch, 10 * epoch)
        best.see(epoch, network, accuracies, 1.0 / epoch)
    best.restore(network)
    # of equally good epochs the one with the lower loss
    assert network.values == [3.0, 20.0]
    assert best.epoch == 2


def test_a_whole_network_goes_by_the_weighted_sum_and_a_checkpoint_keeps_it():
    network, best = nn.Linear(1, 1), BestEpoch((0.5, 1.0))
    for epoch, accuracies in enumerate([(0.9, 0.5), (0.2, 0.8), (0.9, 0.4)], 1):
        with torch.no_grad():
            network.weight.fill_(epoch)
        best.see(epoch, network, accuracies, 1.0)
    again = BestEpoch((0.5, 1.0))
    again.load_state_dict(best.state_dict())
    again.restore(network)
    assert network.weight.item() == 1.0  # 0.95 of 0.95, 0.9 and 0.85


def test_nothing_seen_changes_nothing():
    network = nn.Linear(1, 1)
    before = network.weight.item()
    BestEpoch((1.0,)).restore(network)
    assert network.weight.item() == before
