"""A learned bottleneck: what is trained crosses the wire, on either executor."""

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from artefacts import ArtefactError, UsageError
from controller.physics.candidates import candidate_plans
from controller.plans import check_plan, one_hop
from models.capture.lower import lower
from models.codecs import LEARNED
from models.executors import OnnxExecutor
from models.facts.branchy import BranchySpec
from models.facts.cards import Card, load_model, model_digest, save_model
from models.facts.preprocessing import PictureInput
from models.networks.bottleneck import (
    TOP,
    Bottleneck,
    BottleneckArgs,
    lowered_bottleneck,
    rounded,
    train_bottleneck,
)
from models.networks.torch_executor import TorchExecutor

ARGS = BottleneckArgs(cut=1, channels=2, hidden=8, epochs=6, learning_rate=1e-2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.end = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.end(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def lowered():
    torch.manual_seed(0)
    return lower(Net().eval(), torch.zeros(2, 3, 16, 16), "net")


def batches(epoch=0):
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(12):
        yield torch.randn(8, 3, 16, 16, generator=generator), torch.zeros(8, dtype=torch.int64)


@pytest.fixture(scope="module")
def trained(lowered, tmp_path_factory):
    spec, state = lowered
    losses = []
    found = train_bottleneck(
        spec, state, ARGS, batches, 12, lambda: batches(99),
        tmp_path_factory.mktemp("b") / "b.pt", lambda e, loss, a: losses.append(loss),
    )  # fmt: skip
    return found, losses


@pytest.fixture(scope="module")
def model(lowered, trained, tmp_path_factory):
    return published(lowered, trained[0], tmp_path_factory.mktemp("published"))


def published(lowered, bottleneck, folder):
    spec, state = lowered
    learned, more, ranges = lowered_bottleneck(spec, bottleneck, ARGS)
    whole = msgspec.structs.replace(spec, bottlenecks=(learned,))
    named, merged = {learned.encoder.name: ranges}, state | more
    card = Card(
        2, "net", whole, model_digest(whole, merged, named), ("a", "b", "c"), "made up",
        PictureInput(), {}, (), (),
    )  # fmt: skip
    save_model(folder, merged, card, named)
    return load_model(folder)


def test_training_learns_and_rounds_to_levels(trained):
    _, losses = trained
    assert losses[-1] < 0.7 * losses[0]
    x = torch.linspace(0.0, TOP, 50, requires_grad=True)
    y = rounded(x, 4)
    assert len(y.unique()) == 16
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(50))


@pytest.mark.parametrize("make", [OnnxExecutor, TorchExecutor])
def test_what_crosses_is_what_was_trained(model, trained, make):
    executor = make(model)
    bottleneck = trained[0].eval()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)).numpy()
    tensor = executor.run(0, 0, 1, x)
    encoded = executor.encode(LEARNED, 0, 1, tensor)
    assert len(encoded.data) == 2 * 4 * 4 // 2
    there = executor.decode(LEARNED, 0, 1, encoded.meta, encoded.data)
    with torch.inference_mode():
        expected = bottleneck(torch.from_numpy(tensor)).numpy()
    assert np.allclose(there, expected, atol=1e-3)


def test_both_executors_write_the_same_bytes(model):
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(6)).numpy()
    tensor = OnnxExecutor(model).run(0, 0, 1, x)
    one, other = (
        m(model).encode(LEARNED, 0, 1, tensor).data for m in (OnnxExecutor, TorchExecutor)
    )
    assert one == other


def copying():
    """A bottleneck whose decoder copies: what it gives is known to the last bit.

    Every convolution hands on channel c of its input (modulo their number) as it is, so that no sum
    is ever rounded; batch normalisation multiplies by one.
    """
    bottleneck = Bottleneck((6, 8, 8), ARGS).eval()
    with torch.no_grad():
        for layer in bottleneck.decoder:
            if isinstance(layer, nn.Conv2d):
                middle = layer.kernel_size[0] // 2
                layer.weight.zero_()
                for out in range(layer.out_channels):
                    layer.weight[out, out % layer.in_channels, middle, middle] = 1.0
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.fill_(1.0 - layer.eps)
    return bottleneck


@pytest.fixture(scope="module")
def copied(lowered, tmp_path_factory):
    return published(lowered, copying(), tmp_path_factory.mktemp("copying"))


@pytest.mark.parametrize("make", [OnnxExecutor, TorchExecutor])
def test_golden_values_of_a_latent(copied, make):
    """Bytes of a latent made by hand give these values, to the last bit."""
    # levels 0 to 15 in channel 0 and their reverse in channel 1, the first of two in the low half
    sent = bytes.fromhex("1032547698badcfeefcdab8967452301")
    there = make(copied).decode(LEARNED, 0, 1, {}, sent)
    assert (there.shape, there.dtype) == ((1, 6, 8, 8), np.float32)
    levels = np.arange(16, dtype=np.float32).reshape(4, 4) * np.float32(0.4)
    expected = np.empty((8, 8), dtype=np.float32)
    expected[:, 0::2] = levels.repeat(2, axis=0)
    expected[:, 1::2] = levels[::-1, ::-1].repeat(2, axis=0)
    for channel in there[0]:
        assert np.array_equal(channel, expected)
    golden = "000000000000c040cdcccc3e3333b340cdcc4c3f6766a6409a99993f9a999940"
    assert there[0, 0, 0].astype("<f4").tobytes().hex() == golden


def test_a_learned_codec_serves_its_cut_alone(model):
    plans = candidate_plans(model.spec, ("int8", LEARNED))
    assert [h.start for p in plans for h in p.hops if h.codec == LEARNED] == [1]
    with pytest.raises(UsageError, match="plan codec 'bottleneck': found a cut before layer 2"):
        check_plan(one_hop(0, 2, 3, LEARNED), model.spec)
    with pytest.raises(UsageError, match="found cut 2, expected one with a learned codec"):
        OnnxExecutor(model).encode(LEARNED, 0, 2, np.zeros((1, 8, 4, 4), np.float32))
    bare = msgspec.structs.replace(model.spec, bottlenecks=())
    assert bare.digest != model.spec.digest
    with pytest.raises(UsageError, match="found a bottleneck at cut"):
        learned = msgspec.structs.replace(model.spec.bottlenecks[0], cut=9)
        BranchySpec(**{f: getattr(bare, f) for f in ("name", "input_shape", "classes", "trunk",
                                                     "exits")}, bottlenecks=(learned,))  # fmt: skip


def test_an_interrupted_run_goes_on_bit_for_bit(lowered, tmp_path):
    spec, state = lowered
    args = BottleneckArgs(cut=1, channels=2, hidden=8, epochs=3)

    def go(path, report):
        return train_bottleneck(
            spec, state, args, batches, 12, lambda: batches(99), tmp_path / path, report
        )

    def stop_after_first(*_):
        raise KeyboardInterrupt

    losses, more = {}, {}
    straight = go("a.pt", lambda epoch, loss, _: losses.update({epoch: loss}))
    with pytest.raises(KeyboardInterrupt):
        go("b.pt", stop_after_first)
    torch.manual_seed(1234)  # another process begins anywhere
    resumed = go("b.pt", lambda epoch, loss, _: more.update({epoch: loss}))
    assert list(more) == [2, 3]
    assert more == {epoch: losses[epoch] for epoch in more}
    assert len(straight.state_dict()) > 20
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_another_runs_checkpoint_is_refused(lowered, tmp_path):
    spec, state = lowered
    path = tmp_path / "b.pt"

    def go(args):
        return train_bottleneck(
            spec, state, args, batches, 12, lambda: batches(99), path, lambda *a: None
        )

    go(BottleneckArgs(cut=1, channels=2, hidden=8, epochs=1))
    with pytest.raises(ArtefactError, match="field 'identity'"):
        go(BottleneckArgs(cut=1, channels=3, hidden=8, epochs=1))
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ArtefactError, match="an unreadable file"):
        go(BottleneckArgs(cut=1, channels=2, hidden=8, epochs=1))
