"""Small modules of a user's, and pictures that a bright and a dark class tell apart."""

import sys
import textwrap

import numpy as np

FACTORY = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.Conv2d(3, 8, 3, 2, 1)
            self.b = nn.Conv2d(8, 8, 3, 1, 1)
            self.c = nn.Conv2d(8, 12, 3, 2, 1)
            self.end = nn.Linear(12, 2)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = x + torch.relu(self.b(x))
            x = torch.relu(self.c(x)).mean(dim=(2, 3))
            return self.end(x)

    def make():
        return Small()

    def nothing():
        return 3

    def fails():
        return 1 // 0

    class Flat(nn.Module):
        # flattens a map, as AlexNet does, and has what the torch executor does not know
        def __init__(self, classes):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.end = nn.Linear(4 * 3 * 4, classes)

        def forward(self, x):
            x = nn.functional.leaky_relu(self.a(x))
            return self.end(nn.functional.leaky_relu(self.b(x)).flatten(1))

    def wide():
        return Flat(300)

    def single():
        return Flat(1)

    def flat():
        return Flat(2)

    class Maps(nn.Module):
        def forward(self, x):
            return x.mean(dim=3)

    class Double(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)).double()

    def head(shape, classes):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes))

    def flat_head(shape, classes):
        return nn.Flatten()

    class Ends(Small):
        def forward(self, x):
            raise SystemExit(0)

    class Branches(nn.Module):
        def forward(self, x):
            return x.mean(dim=(1, 2)) if x.sum() > 0 else -x.mean(dim=(1, 2))
"""


def bring(folder, monkeypatch):
    """Put module and pictures into `folder`, and go there."""
    (folder / "brought.py").write_text(textwrap.dedent(FACTORY))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160)
    x = rng.integers(0, 100, (160, 24, 32, 3)) + 120 * y[:, None, None, None]
    np.savez(folder / "pictures.npz", x=x.astype(np.uint8), y=y)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "brought", raising=False)
